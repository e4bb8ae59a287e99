"""Puts this folder on sys.path (pytest does, for a conftest), so that tests share its modules."""

from pathlib import Path

import pytest

_GPU = Path(__file__).parent / "gpu"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m gpu` only that lane is read: other tests import what its machines need not have."""
    if config.getoption("markexpr") != "gpu" or Path(__file__).parent == collection_path:
        return None
    return None if _GPU in (collection_path, *collection_path.parents) else True
