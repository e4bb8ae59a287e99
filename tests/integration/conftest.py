"""What several modules share because it takes seconds to start."""

from collections.abc import Iterator

import pytest
from tiny_endpoint import tiny_endpoint

from serving.embedded.endpoint import EmbeddedEndpoint


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEndpoint]:
    """A tiny endpoint for tests that only ask it."""
    with tiny_endpoint(tmp_path_factory.mktemp("served")) as endpoint:
        yield endpoint
