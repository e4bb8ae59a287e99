"""The engine that a configuration names."""

from pathlib import Path

from ingestion.engines.base import Engine
from recommender.engines.settings import EngineConfig


def open_engine(config: EngineConfig, work: Path, place: str = "source.engine") -> Engine:
    """Start the engine; what it puts on disk lies in `work`, an existing folder.

    Args:
        place: of `config` in a run's configuration, for messages.

    Raises:
        IngestError: Spark or Java is not there.
    """
    if config.name == "spark":
        from ingestion.engines.spark import SparkEngine

        return SparkEngine(config, work, place)
    from ingestion.engines.duckdb import DuckDBEngine

    return DuckDBEngine(config, work)
