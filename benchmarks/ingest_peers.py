"""What ingestion is compared with: a script as one writes it by hand.

It drops the same rows. It keeps no rejects, knows no positions, counts nothing and validates
nothing; that is what the ratio pays for.
"""

from pathlib import Path

import duckdb

from benchmarks.ingest_events import MAX_EVENTS_A_DAY, REPEAT_WINDOW_S


def by_hand(source: Path, target: Path, memory: str) -> dict[str, int]:
    """Clean `source` (of ingest_events) into parquet files in `target`; rows kept by table."""
    connection = duckdb.connect(target / "work.duckdb")
    connection.execute(f"SET memory_limit = '{memory}'")
    connection.execute(f"SET temp_directory = '{target / 'spill'}'")
    connection.execute(
        rf"""
        CREATE TABLE items AS
        SELECT item_id, any_value(title) AS title, any_value(text) AS text,
          any_value(categories) AS categories
        FROM (
          SELECT item_id, trim(title) AS title, categories,
            trim(regexp_replace(regexp_replace(replace(nfc_normalize(description), '&amp;', '&'),
              '<[^>]*>', ' ', 'g'), '[\x00-\x1f\s]+', ' ', 'g')) AS text
          FROM read_json('{source / "items.jsonl"}')
        ) WHERE title <> '' GROUP BY item_id
        """
    )
    connection.execute(
        f"""
        CREATE TABLE usable AS
        SELECT DISTINCT * FROM (
          SELECT nullif(trim("user"), '') AS user_id, trim(item) AS item_id,
            make_timestamp(TRY_CAST(ts AS BIGINT) * 1000000) AS timestamp,
            kind AS event_type, TRY_CAST(amount AS DOUBLE) AS value, device
          FROM read_csv('{source / "events-*.csv"}', all_varchar = true)
        )
        WHERE user_id IS NOT NULL AND timestamp IS NOT NULL AND value IS NOT NULL
          AND item_id IN (SELECT item_id FROM items)
        """
    )
    connection.execute(
        f"""
        CREATE TABLE spaced AS
        SELECT * EXCLUDE before FROM (
          SELECT *, lag(timestamp) OVER (
            PARTITION BY user_id, item_id, event_type ORDER BY timestamp) AS before FROM usable
        ) WHERE before IS NULL OR timestamp - before > INTERVAL {REPEAT_WINDOW_S} SECOND
        """
    )
    kept = {}
    for table, rows in (
        (
            "events",
            "SELECT * FROM spaced WHERE user_id NOT IN (SELECT user_id FROM spaced "
            f"GROUP BY user_id, timestamp::DATE HAVING count(*) > {MAX_EVENTS_A_DAY}) "
            "ORDER BY user_id, timestamp",
        ),
        ("items", "SELECT * FROM items ORDER BY item_id"),
        ("users", f"SELECT DISTINCT user_id FROM '{target / 'events.parquet'}' ORDER BY user_id"),
    ):
        path = target / f"{table}.parquet"
        connection.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
        (kept[table],) = connection.execute(f"SELECT count(*) FROM '{path}'").fetchone() or (0,)
    connection.close()
    (target / "work.duckdb").unlink()
    return kept
