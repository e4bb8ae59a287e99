"""The GPU lane: `python -m pytest -m gpu`, or `pytest tests/gpu`.

It needs a CUDA device, torch and what recommender/ imports, and no other room: with `-m gpu`
nothing else is even read (tests/conftest.py). Without a device every test fails; none is skipped.
"""

from pathlib import Path

import pytest
import torch

_LANE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.getoption("markexpr") == "gpu":
        return None
    named = (Path(arg.partition("::")[0]).resolve() for arg in config.args)
    inside = any(path == _LANE or _LANE in path.parents for path in named)
    return None if inside else True


@pytest.fixture(autouse=True)
def cuda() -> None:
    if not torch.cuda.is_available():
        pytest.fail(f"the GPU lane needs a CUDA device: torch {torch.__version__} sees none")
