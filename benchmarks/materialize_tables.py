"""Offline tables of many users for benchmarks.feature_materialize, made by DuckDB alone.

Lengths of histories are log-normal, of median 20, up to 1000. Everything follows from a hash of
user, event and seed, so that any number of threads makes the same table.
"""

from pathlib import Path

import duckdb

from recommender.files import write_json

MEDIAN, SPREAD, LONGEST = 20, 1.0, 1000
ITEMS = 200_000
LAST_US = 1_767_225_600_000_000  # 2026-01-01, the time of the last event; microseconds since 1970
DAY_US = 86_400_000_000
CHANGED_EVERY = 100  # of the second set: one user in so many has one more event, a day later
_ROW_GROUP = 10_000
_ITEM_TABLE = """
SELECT 'item-1' AS item_id, 'One' AS title, ['kind'] AS categories, 1::BIGINT AS popularity,
    [1.0, 0.0]::FLOAT[] AS vector, make_timestamptz({last}) AS event_time
"""
# Ten users in a hundred have an older row too, which is not to be written.
_USER_TABLE = """
WITH users AS (
    SELECT user AS number, 'user-' || user AS user_id,
        greatest(1, least({longest}, round({median} * exp({spread} * sqrt(-2 * ln(u)) * cos(v)))))
            ::BIGINT AS length
    FROM (
        SELECT range AS user,
            (hash(range, {seed}) % 1000000 + 1) / 1000001.0 AS u,
            (hash(range, {seed} + 1) % 1000000) / 1000000.0 * 2 * pi() AS v
        FROM range({users})
    )
), versions AS (
    SELECT *, 0 AS more FROM users WHERE hash(number, {seed} + 2) % 10 = 0 AND length > 1
    UNION ALL SELECT *, 1 FROM users
), lengths AS (
    SELECT *, length - 1 + more AS events,
        {last} - (hash(number, {seed} + 3) % {day} + {day})::BIGINT AS last_us,
        ({changed} AND more = 1 AND number % {every} = 0) AS longer
    FROM versions
), lists AS (
    SELECT user_id, longer,
        list_transform(range(events), lambda n: 'item-' || hash(number, n) % {items}) AS history,
        list_transform(range(events), lambda n: last_us - (length - 1 - n) * 3600123457)
            AS history_times
    FROM lengths
), grown AS (
    SELECT user_id,
        CASE WHEN longer THEN list_append(history, 'item-1') ELSE history END AS history,
        CASE WHEN longer THEN list_append(history_times, {last} + {day}) ELSE history_times END
            AS history_times
    FROM lists
)
SELECT user_id, history, history_times,
    list_transform(history, lambda item: 0::BIGINT) AS history_ranks,
    len(history) AS event_count,
    make_timestamptz(history_times[-1]) AS last_event_time,
    make_timestamptz(history_times[-1]) AS event_time
FROM grown ORDER BY user_id, event_time
"""


def write_tables(folder: Path, users: int, seed: int, changed: bool) -> int:
    """offline/ of a folder, as feature_repo.offline leaves it; events in the users' latest rows."""
    offline = folder / "offline"
    offline.mkdir(parents=True)
    table = offline / "user_history.parquet"
    query = _USER_TABLE.format(
        users=users, seed=seed, changed=changed, median=MEDIAN, spread=SPREAD, longest=LONGEST,
        items=ITEMS, last=LAST_US, day=DAY_US, every=CHANGED_EVERY,
    )  # fmt: skip
    with duckdb.connect(config={"memory_limit": "4GB", "temp_directory": str(folder)}) as database:
        _copy(database, query, table)
        items = _ITEM_TABLE.format(last=LAST_US)
        _copy(database, items, offline / "item_features.parquet")
        (events,) = database.execute(
            "SELECT sum(count) FROM (SELECT max(event_count) AS count FROM read_parquet($path) "
            "GROUP BY user_id)",
            {"path": str(table)},
        ).fetchone() or (0,)
    covered = LAST_US + DAY_US if changed else LAST_US
    write_json(offline / "offline.json", {"history_length": LONGEST, "covered_until_us": covered})
    return int(events)


def _copy(database: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP}"
    database.execute(f"COPY ({query}) TO '{path}' ({options})")
