"""A log's rows against what the offline data says of them, by the engine (DuckDB).

Of each row: E, the user's latest `history_length` events with event_time <= as_of, as Feast's
point-in-time join takes them; U, the history as used. Where U = E nothing more is looked at. Else
the events of U are found in the data, and a few numbers say what is different:

  n      how many events the user had as of then;  lo, hi, found: number of the first, of the last,
         and how many of U there are among them
  holes  hi - lo + 1 - found: missing between two that U has
  behind n - hi: missing after the last that U has
"""

from collections.abc import Sequence
from typing import Any

from feature_repo.replay.causes import Cause
from feature_repo.replay.events import Events

# Rows of one day, with E beside U.
_LOGGED = """
CREATE OR REPLACE TEMP TABLE logged AS
WITH rows AS (
    SELECT row_number() OVER () AS id, request_id, user_id, user_key, model_version,
        strftime(received, '%Y-%m-%d') AS day, epoch_us(as_of) AS as_of_us, feature_status,
        coalesce(history, []) AS history, history_times
    FROM read_parquet($files)
    WHERE ($since IS NULL OR received >= $since) AND ($until IS NULL OR received < $until)
    ORDER BY received DESC LIMIT $limit
), counted AS (
    SELECT rows.*, coalesce(known.number, 0) AS n
    FROM rows ASOF LEFT JOIN known
        ON rows.user_id = known.user_id AND rows.as_of_us >= known.event_us
)
SELECT counted.*,
    coalesce(items[greatest(1, n - $length + 1):n], []) AS expected,
    history = expected AND (
        history_times IS NULL
        OR history_times = coalesce(times[greatest(1, n - $length + 1):n], [])
    ) AS same
FROM counted LEFT JOIN histories USING (user_id)
"""

# Of rows that differ, what is different.
_DIFFERENT = """
CREATE OR REPLACE TEMP TABLE different AS
WITH used AS (
    SELECT id, user_id, n, as_of_us, unnest(history) AS item, unnest(history_times) AS time_us,
        unnest(range(len(history))) AS place
    FROM logged WHERE NOT same AND history_times IS NOT NULL
), copies AS (
    SELECT *, row_number() OVER (PARTITION BY id, time_us, item ORDER BY place) AS copy FROM used
), matched AS (
    SELECT copies.*, known.number, items.item IS NULL AS unknown,
        max(known.number) OVER so_far > known.number OR max(copies.time_us) OVER so_far > time_us
            AS disordered
    FROM copies
        LEFT JOIN known USING (user_id, time_us, item, copy)
        LEFT JOIN items ON copies.item = items.item
    WINDOW so_far AS (PARTITION BY id ORDER BY place)
), told AS (
    SELECT *, number > n OR (number IS NULL AND time_us > as_of_us) AS future,
        number IS NULL AND time_us <= as_of_us AS extra
    FROM matched
)
SELECT id,
    min(number) FILTER (number <= n) AS lo,
    coalesce(max(number) FILTER (number <= n), 0) AS hi,
    count(*) FILTER (number <= n) AS found,
    count(*) FILTER (future) AS future,
    count(*) FILTER (extra AND unknown AND time_us BETWEEN $covered_from AND $covered_until)
        AS unknown,
    count(*) FILTER (extra AND time_us BETWEEN $covered_from AND $covered_until) AS extra,
    count(*) FILTER (extra AND time_us > $covered_until) AS pushed,
    count(*) FILTER (extra AND time_us < $covered_from) AS expired,
    coalesce(bool_or(disordered), false) AS disordered
FROM told GROUP BY id
"""

_JUDGED = f"""
INSERT INTO judged
WITH measured AS (
    SELECT logged.*, lo, coalesce(hi, 0) AS hi, coalesce(found, 0) AS found, future, unknown,
        extra, pushed, expired, disordered,
        coalesce(hi - lo + 1 - found, 0) AS holes, n - coalesce(hi, 0) AS behind,
        greatest(1, hi - ($length - (len(history) - found)) + 1) AS lo_expected
    FROM logged LEFT JOIN different USING (id)
), timed AS (
    SELECT measured.*, (as_of_us - known.event_us) / 1e6 AS lag_s
    FROM measured LEFT JOIN known ON measured.user_id = known.user_id
        AND known.number = hi + 1 AND behind > 0
)
SELECT CASE
        WHEN feature_status = 'given' THEN '{Cause.GIVEN}'
        WHEN starts_with(feature_status, 'fallback') THEN '{Cause.NO_FEATURES}'
        WHEN user_key IS DISTINCT FROM $key_id THEN '{Cause.OTHER_KEY}'
        WHEN as_of_us < $covered_from THEN '{Cause.EXPIRED_LOG}'
        WHEN same THEN '{Cause.MATCH}'
        WHEN feature_status = 'unknown' AND lag_s > $allow_lag_s THEN '{Cause.MISSING_USER}'
        WHEN len(history) > 0 AND history_times IS NULL THEN '{Cause.UNEXPLAINED}'
        WHEN future > 0 THEN '{Cause.FUTURE_EVENT}'
        WHEN unknown > 0 THEN '{Cause.UNKNOWN_ITEM}'
        WHEN extra > 0 THEN '{Cause.EXTRA_EVENT}'
        WHEN holes > 0 OR (pushed > 0 AND behind > 0) THEN '{Cause.LATE_EVENT}'
        WHEN disordered THEN '{Cause.ORDER}'
        WHEN lo <> lo_expected THEN '{Cause.TRUNCATED}'
        WHEN behind > 0 AND lag_s > $allow_lag_s THEN '{Cause.NOT_MATERIALISED}'
        WHEN behind > 0 THEN '{Cause.LAG}'
        WHEN pushed > 0 THEN '{Cause.PUSHED}'
        WHEN expired > 0 THEN '{Cause.EXPIRED}'
        ELSE '{Cause.UNEXPLAINED}'
    END AS cause,
    request_id, user_id, model_version, day, as_of_us, len(history) AS used,
    len(expected) AS expected, least(behind, $length) + holes AS missing,
    coalesce(extra, 0) + coalesce(future, 0) AS surplus, lag_s
FROM timed
"""

_TABLE = """
CREATE OR REPLACE TEMP TABLE judged (
    cause VARCHAR, request_id VARCHAR, user_id VARCHAR, model_version VARCHAR, day VARCHAR,
    as_of_us BIGINT, used BIGINT, expected BIGINT, missing BIGINT, surplus BIGINT, lag_s DOUBLE
)
"""


def begin(connection: Any) -> None:
    """Make the empty table `judged`."""
    connection.execute(_TABLE)


def judge(
    connection: Any,
    files: Sequence[str],
    events: Events,
    *,
    covered_from_us: int,
    key_id: str,
    allow_lag_s: float,
    since: Any,
    until: Any,
    limit: int,
) -> int:
    """Add a cause for each row of `files` to the table `judged`; how many rows.

    Args:
        connection: DuckDB's, with the tables of feature_repo.replay.events.
        covered_from_us: time of the oldest event that the data has.
        since, until: of `received`, or None.
        limit: most rows, the latest.
    """
    length = {"length": events.history_length}
    bounds = {"files": list(files), "since": since, "until": until, "limit": limit}
    connection.execute(_LOGGED, bounds | length)
    covered = {"covered_from": covered_from_us, "covered_until": events.covered_until_us}
    connection.execute(_DIFFERENT, covered)
    connection.execute(
        _JUDGED,
        length | {"key_id": key_id, "allow_lag_s": allow_lag_s, "covered_from": covered_from_us},
    )
    (rows,) = connection.execute("SELECT count(*) FROM logged").fetchone()
    return int(rows)
