"""The lane needs a broker's jars and a Java: `make test-kafka` brings the first."""

import shutil

import pytest
from kafka_server import JARS


def pytest_sessionstart(session: pytest.Session) -> None:
    if session.config.option.collectonly:  # `make lint` reads the tests only
        return
    if not (JARS / ".installed").is_file():
        pytest.exit("there is no Kafka in .kafka/: run `make test-kafka`", returncode=2)
    if shutil.which("java") is None:
        pytest.exit("there is no java; on Debian: apt install openjdk-17-jre-headless", 2)
