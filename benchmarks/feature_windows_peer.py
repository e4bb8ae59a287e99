"""What building windows is compared with: DuckDB's SQL as one writes it by hand.

The same rows, of the same events, the same k-core and the same leave-one-out cut-offs. It knows one
training window a user and one engine, holds all lists in memory at once, and looks for no leak;
that is what the ratio pays for.
"""

from pathlib import Path

import duckdb

from feature_repo.config import FeatureConfig
from recommender import schema

_PARQUET = "(FORMAT parquet, COMPRESSION zstd)"


def by_hand(snapshot: Path, out: Path, config: FeatureConfig) -> None:
    """Write windows.parquet, vocabulary.json and offline/ of `snapshot` into `out`."""
    (out / "offline").mkdir(parents=True)
    connection = duckdb.connect(out / "work.duckdb")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET memory_limit = '{config.engine.memory}'")
    connection.execute(f"SET temp_directory = '{out / 'spill'}'")
    if config.engine.threads:
        connection.execute(f"SET threads = {config.engine.threads}")
    _timed(connection, schema.table_path(snapshot, "events"), out)
    _cutoffs(connection, config.k_core, out)
    _windows(connection, config.history_length, out)
    connection.close()
    (out / "work.duckdb").unlink()


def _timed(connection: duckdb.DuckDBPyConnection, events: Path, out: Path) -> None:
    connection.execute(
        f"""
        CREATE TABLE timed AS
        WITH once AS (
          SELECT user_id, item_id, epoch_us(timestamp) AS us, min(position) AS position
          FROM '{events}' GROUP BY ALL
        ), numbered AS (
          SELECT user_id, item_id, us,
            row_number() OVER (PARTITION BY user_id ORDER BY us, position) AS number,
            rank() OVER (PARTITION BY user_id ORDER BY us) AS first_of_ties
          FROM once
        )
        SELECT *, number - first_of_ties AS rank,
          number + max(us - number) OVER (PARTITION BY user_id ORDER BY number) AS event_us
        FROM numbered
        """
    )
    connection.execute(
        f"""
        COPY (
          SELECT user_id, item_id, make_timestamptz(us) AS timestamp, rank,
            make_timestamptz(event_us) AS event_time
          FROM timed ORDER BY user_id, number
        ) TO '{out / "offline" / "events.parquet"}' {_PARQUET}
        """
    )


def _cutoffs(connection: duckdb.DuckDBPyConnection, k: int, out: Path) -> None:
    connection.execute(
        "CREATE TABLE core AS "
        "SELECT user_id, item_id, min(number) AS number FROM timed GROUP BY ALL"
    )
    dropped = 1
    while dropped:
        dropped = 0
        for end in ("user_id", "item_id"):
            rare = f"SELECT {end} FROM core GROUP BY {end} HAVING count(*) < {k}"
            done = connection.execute(f"DELETE FROM core WHERE {end} IN ({rare})").fetchone()
            dropped += done[0] if done else 0
    connection.execute(
        "CREATE TABLE cutoffs AS SELECT user_id, max(number, 2)[2] AS valid, max(number) AS test "
        "FROM core GROUP BY user_id"
    )
    connection.execute(
        "COPY (SELECT DISTINCT item_id FROM core ORDER BY item_id) "
        f"TO '{out / 'vocabulary.json'}' (FORMAT json, ARRAY true)"
    )


def _windows(connection: duckdb.DuckDBPyConnection, length: int, out: Path) -> None:
    connection.execute(
        """
        CREATE TABLE lists AS
        SELECT user_id, count(*) AS events, list(item_id ORDER BY number) AS items,
          list(us ORDER BY number) AS times, list(rank ORDER BY number) AS ranks,
          list(event_us ORDER BY number) AS moments
        FROM timed GROUP BY user_id
        """
    )
    connection.execute(
        f"""
        COPY (
          SELECT user_id, items[greatest(seen - {length}, 0) + 1 : seen] AS history,
            times[greatest(seen - {length}, 0) + 1 : seen] AS history_times,
            ranks[greatest(seen - {length}, 0) + 1 : seen] AS history_ranks,
            least(seen, {length}) AS event_count, make_timestamptz(times[seen]) AS last_event_time,
            make_timestamptz(moments[seen]) AS event_time
          FROM (
            SELECT *, unnest(CASE WHEN valid IS NULL THEN [events]
                             ELSE [valid - 1, test - 1, events] END) AS seen
            FROM lists LEFT JOIN cutoffs USING (user_id)
          ) ORDER BY user_id, seen
        ) TO '{out / "offline" / "user_history.parquet"}' {_PARQUET}
        """
    )
    connection.execute(
        f"""
        COPY (
          SELECT user_id, make_timestamptz(moments[cut]) AS cutoff, split,
            items[greatest(cut - 1 - {length}, 0) + 1 : cut - 1] AS history,
            CASE WHEN split <> 'train' THEN items[cut] END AS target, 0 AS overlap,
            times[greatest(cut - 1 - {length}, 0) + 1 : cut - 1] AS history_times
          FROM (
            SELECT *, unnest(['train', 'valid', 'test']) AS split,
              unnest([valid, valid, test]) AS cut, unnest([0, 1, 2]) AS place
            FROM lists JOIN cutoffs USING (user_id)
          ) ORDER BY user_id, place
        ) TO '{out / "windows.parquet"}' {_PARQUET}
        """
    )
