"""Times by a pattern, on DuckDB; tests/spark reads the same cases."""

from pathlib import Path

from time_cases import CASES, read_on

from ingestion.sources import TIME_DIRECTIVES


def test_each_is_the_time_it_says(tmp_path: Path) -> None:
    assert read_on("duckdb", tmp_path) == [moment for _, _, moment in CASES]


def test_every_directive_that_is_allowed_is_tried() -> None:
    assert set("".join(pattern for pattern, _, _ in CASES)) >= TIME_DIRECTIVES
