"""The lane needs what its environment has: `make test-spark` makes it."""

import importlib.util
import shutil

import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    if importlib.util.find_spec("pyspark") is None:
        pytest.exit("pyspark is not installed: run `make test-spark`", returncode=2)
    if shutil.which("java") is None:
        pytest.exit("there is no java; on Debian: apt install openjdk-17-jre-headless", 2)
