"""A snapshot's events as a shop has them, for `benchmarks.feature_windows`.

Skewed as those of benchmarks.ingest_events, and clean, as ingestion leaves them: some hundred
events a user, up to some thousands, of items of which few have most. Five in a hundred are of
visitors who come two or three times, one in a hundred of items that nearly nobody looks at: what a
k-core drops. Two in a hundred come in the microsecond of the event before, as imports in whole
seconds have them, and of these every fourth is that very event once more.
"""

from pathlib import Path

from benchmarks.ingest_events import SPAN_S, START, _connection, items_of, users_of
from recommender import schema


def write_snapshot(folder: Path, events: int, seed: int) -> None:
    """`folder`/events.parquet of `events` rows, by user, time and position as ingestion has it."""
    folder.mkdir(parents=True, exist_ok=True)
    users, items = users_of(events), items_of(events)
    connection = _connection(folder, seed)
    connection.execute(
        f"""
        COPY (
          WITH picked AS (
            SELECT i AS own, CASE WHEN i > 0 AND chance(i, 0) < 0.02 THEN i - 1 ELSE i END AS i,
              CASE WHEN i > 0 AND chance(i, 0) < 0.005 THEN i - 1 ELSE i END AS looked
            FROM range({events}) t(i)
          )
          SELECT
            CASE WHEN chance(i, 9) < 0.05 THEN 'v' || CAST(floor({events // 50} * chance(i, 4))
                                                          AS BIGINT)
                 ELSE 'u' || CAST(floor({users} * pow(chance(i, 4), 1.5)) AS BIGINT)
            END AS {schema.USER_ID},
            CASE WHEN chance(looked, 10) < 0.01
                 THEN 'r' || CAST(floor({events // 250} * chance(looked, 6)) AS BIGINT)
                 ELSE 'i' || CAST(floor({items} * pow(chance(looked, 6), 3)) AS BIGINT)
            END AS {schema.ITEM_ID},
            make_timestamptz(1000000 * CAST({START} + i * {SPAN_S / events}
                             + 3600 * chance(i, 3) AS BIGINT)) AS {schema.TIMESTAMP},
            'view' AS {schema.EVENT_TYPE}, 1.0::DOUBLE AS {schema.VALUE},
            own AS {schema.POSITION}
          FROM picked ORDER BY {schema.USER_ID}, {schema.TIMESTAMP}, {schema.POSITION}
        ) TO '{schema.table_path(folder, "events")}'
        (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 131072)
        """
    )
    connection.close()
