"""Collects this lane only where it is named: `pytest tests/tensorrt`."""

from pathlib import Path

import pytest

_LANE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    named = (Path(arg.partition("::")[0]).resolve() for arg in config.args)
    inside = any(path == _LANE or _LANE in path.parents for path in named)
    return None if inside else True
