"""What several modules share."""

import pytest
from rollout_target import MemoryTarget


@pytest.fixture
def target() -> MemoryTarget:
    """An endpoint in memory, for rollouts."""
    return MemoryTarget()
