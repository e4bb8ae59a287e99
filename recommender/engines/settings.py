"""Where tables are computed: `source.engine` of ingestion, `features.engine` of features."""

from typing import Literal

from pydantic import Field

from recommender.config import Section


class EngineConfig(Section):
    """DuckDB in this process, or a Spark; the same code on both, and the same rows."""

    name: Literal["duckdb", "spark"] = Field("duckdb", description="what computes the tables")
    memory: str = Field(
        "2GB",
        pattern=r"^[1-9][0-9]*(\.[0-9]+)?(MB|GB|MiB|GiB)$",
        description="of DuckDB, which goes to disk beyond it; of a Spark that is started here",
    )
    threads: int | None = Field(None, ge=1, description="of DuckDB; none = one a core")
    spark_master: str = Field(
        "local[*]",
        min_length=1,
        description="of Spark: local[*], or sc://host:15002 for a Spark Connect server",
    )
    spark_conf: dict[str, str] = Field({}, description="Spark's own settings, spark.*")
