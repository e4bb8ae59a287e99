"""Times by a pattern, as DuckDB reads them."""

from pathlib import Path

from time_cases import CASES, read_on


def test_each_is_the_time_it_says(tmp_path: Path) -> None:
    assert read_on("spark", tmp_path) == [moment for _, _, moment in CASES]
