"""Texts, the pattern they are read by, and the time in UTC that they are; None for no time."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.engines.open import open_engine
from ingestion.patterns import parsed
from recommender.engines.settings import EngineConfig

NOON = "2024-03-01 12:00:00"
CASES = [
    ("%Y-%m-%d %H:%M:%S%z", "2024-03-01 13:00:00+01:00", NOON),
    ("%Y-%m-%d %H:%M:%S%z", "2024-03-01 13:00:00+0100", NOON),
    ("%Y-%m-%d %H:%M:%S%z", "2024-03-01 11:00:00-01", NOON),
    ("%Y-%m-%d %H:%M:%S%z", "2024-03-01 12:00:00Z", NOON),
    ("%Y-%m-%d %H:%M:%S%z", "2024-03-01 12:00:00", None),
    ("%Y-%m-%d %H:%M:%S", "2024-03-01 24:00:00", None),
    ("%Y-%m-%d %H:%M:%S", "2024-03-01 12:60:00", None),
    ("%Y-%m-%d %H:%M:%S", "2024-03-01 12:00:60", None),
    ("%Y-%m-%d %H:%M:%S", "2024-03-01 12:00:00 ", None),
    ("%Y-%m-%d %H:%M:%S", "2024-3-1 12:0:0", NOON),
    ("%d.%m.%Y (%H:%M)", "1.3.2024 (12:00)", NOON),
    ("%d/%m/%Y %I:%M %p %z", "1/3/2024 05:30 PM +05:30", NOON),
    ("%d/%m/%Y %I:%M %p", "01/03/2024 12:00 pm", NOON),
    ("%d/%m/%Y %I:%M %p", "01/03/2024 12:00 am", "2024-03-01 00:00:00"),
    ("%d/%m/%Y %I:%M %p", "01/03/2024 13:00 pm", None),
    ("%Y-%m-%d %I", "2024-03-01 05", "2024-03-01 05:00:00"),
    ("%H:%M:%S.%f %d %m %Y", "12:00:00.5 01 03 2024", NOON + ".5"),
    ("%H:%M:%S.%f %d %m %Y", "12:00:00.123456789 01 03 2024", NOON + ".123456"),
    ("%H:%M:%S.%f %d %m %Y", "12:00:00. 01 03 2024", None),
    ("%Y%m%d%H%M%S", "20240301120000", NOON),
    ("%Y%m%d", "2024301", None),
    ("%y-%m-%d", "68-03-01", "2068-03-01 00:00:00"),
    ("%y-%m-%d", "69-03-01", "1969-03-01 00:00:00"),
    ("%y-%m-%d", "2024-03-01", None),
    ("%b %d %Y %H", "Mar 1 2024 12", NOON),
    ("%d %B %Y %H", "1 march 2024 12", NOON),
    ("%d %B %Y", "1 Mar 2024", None),
    ("%b %d %Y", "Foo 1 2024", None),
    ("%Y", "2024", "2024-01-01 00:00:00"),
    ("%Y %% %m", "2024 % 03", "2024-03-01 00:00:00"),
    ("%j %Y %H", "061 2024 12", NOON),
    ("%Y%j", "2024366", "2024-12-31 00:00:00"),
    ("%Y%j", "2023366", None),
    ("%j %Y", "0 2024", None),
    ("%m/%d/%Y", "02/30/2024", None),
    ("%m/%d/%Y", None, None),
]


def read_on(engine_name: str, folder: Path) -> list[str | None]:
    """What every case is read as."""
    engine = open_engine(EngineConfig(name=engine_name), folder)
    found: list[str | None] = []
    try:
        for pattern, text, _ in CASES:
            pq.write_table(
                pa.table({"text": pa.array([text], pa.string())}), folder / "case.parquet"
            )
            rows = engine.connection.read_parquet(str(folder / "case.parquet"))
            shown = rows.select(shown=parsed(rows.text, pattern).cast("string")).to_pyarrow()
            (moment,) = shown["shown"].to_pylist()
            found.append(moment and moment.removesuffix("+00"))
    finally:
        engine.close()
    return found
