"""Starting Spark, or reaching one; what it has to be told before."""

import logging
import os
import re
import shutil
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ingestion.errors import IngestError
from recommender.engines.settings import EngineConfig

_LOGS = """rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %p %c{1}: %m%n
"""
# For the same rows as DuckDB: casts give null instead of an error, times are in UTC and of
# microseconds, and a line of text is malformed or not whichever of its columns are asked for.
_SAME_ROWS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.csv.parser.columnPruning.enabled": "false",
    "spark.sql.csv.filterPushdown.enabled": "false",
    "spark.sql.json.filterPushdown.enabled": "false",
    "spark.sql.jsonGenerator.ignoreNullFields": "false",
    "spark.sql.caseSensitive": "true",
    # Files are cut by size alone: rows are counted and numbered in two passes over the same parts,
    # however many executors there are by then.
    "spark.sql.files.minPartitionNum": "1",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
_MIB = {"MB": 1, "MiB": 1, "GB": 1024, "GiB": 1024}


def start(config: EngineConfig, work: Path, place: str) -> Any:
    """A session of `config.spark_master`.

    Args:
        place: of `config` in a run's configuration, for messages.

    Raises:
        IngestError: pyspark or Java is not there, or the server cannot be reached.
    """
    if find_spec("pyspark") is None:
        raise IngestError(
            f"{place}.name is spark, but pyspark is not installed: `make test-spark` makes an "
            f"environment that has it, .venv-spark; or set {place}.name to duckdb"
        )
    remote = config.spark_master.startswith("sc://")
    if remote and find_spec("grpc") is None:
        raise IngestError(
            f"{place}.spark_master is '{config.spark_master}', and Spark Connect needs more "
            "packages: install 'pyspark[connect]'; or name a master such as local[*], yarn, or "
            "spark://host:7077"
        )
    if not remote and not _java():
        raise IngestError(
            f"{place}.name is spark, which needs Java 17 or newer, and there is no `java` in "
            "PATH or JAVA_HOME; on Debian: apt install openjdk-17-jre-headless; or set "
            f"{place}.name to duckdb"
        )
    # Workers run our functions: by this Python, which has what they import.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    # Each of its errors as a page of JSON, beside the exception.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    # Spark Connect says so of every table that comes from here.
    warnings.filterwarnings("ignore", message="'verifySchema' is ignored")
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    builder: Any = SparkSession.builder
    if remote:
        builder = builder.remote(config.spark_master)
    else:
        builder = builder.master(config.spark_master).appName("kuberec ingest")
        for name, value in _of_our_own(config, work).items():
            builder = builder.config(name, value)
    for name, value in (_SAME_ROWS | config.spark_conf).items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except (PySparkException, Py4JError, OSError, RuntimeError) as error:
        java = getattr(error, "java_exception", None)
        said = str(java.getMessage() if java is not None else error) or type(error).__name__
        raise IngestError(
            f"Spark at '{config.spark_master}' does not start: {said.splitlines()[0]}; check "
            f"{place}.spark_master and spark_conf"
        ) from error


def _of_our_own(config: EngineConfig, work: Path) -> dict[str, str]:
    """Settings of a Spark whose driver is this process."""
    logs = work / "log4j2.properties"
    logs.write_text(_LOGS)
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile=file:{logs}",
        "spark.driver.memory": _memory(config.memory),
        "spark.sql.warehouse.dir": str(work / "warehouse"),
    }
    if config.spark_master.startswith("local"):
        cores = re.search(r"\[(\d+)", config.spark_master)
        settings |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.local.dir": str(work / "spark"),
            # 200 by default, each a file and a task: meant for a cluster.
            "spark.sql.shuffle.partitions": cores[1] if cores else str(2 * (os.cpu_count() or 1)),
        }
    return settings


def _memory(text: str) -> str:
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]+)", text).groups()  # type: ignore[union-attr]
    return f"{int(float(number) * _MIB[unit])}m"


def _java() -> bool:
    home = os.environ.get("JAVA_HOME")
    return bool(shutil.which("java") or (home and (Path(home) / "bin" / "java").is_file()))
