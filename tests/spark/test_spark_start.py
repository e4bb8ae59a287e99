"""A Spark that cannot be started says what is missing."""

from pathlib import Path

import pytest

from ingestion.engines.open import open_engine
from ingestion.errors import IngestError
from recommender.engines.settings import EngineConfig


def test_without_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(IngestError, match=r"needs Java 17 .*apt install openjdk-17"):
        open_engine(EngineConfig(name="spark"), tmp_path)


def test_connect_without_its_packages(tmp_path: Path) -> None:
    """This environment has pyspark without grpc."""
    with pytest.raises(IngestError, match=r"pyspark\[connect\]"):
        open_engine(EngineConfig(name="spark", spark_master="sc://localhost:1"), tmp_path)


def test_a_master_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"'nonsense' does not start"):
        open_engine(EngineConfig(name="spark", spark_master="nonsense"), tmp_path)
