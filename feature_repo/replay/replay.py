"""Do logged requests show the features that training is shown? Every row of a log, replayed."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from feature_repo.replay.causes import Cause, Kind
from feature_repo.replay.compare import begin, judge
from feature_repo.replay.events import Events, load_events
from feature_repo.replay.log_files import LogFile, log_files
from feature_repo.replay.report import Example, Group, Report
from recommender.errors import KuberecError
from recommender.progress import Progress, silent
from recommender.pseudonyms import key_id

DAY_S = 86_400.0
ALLOW_LAG_S = 2 * DAY_S  # a run every night, one of which may fail
_EXAMPLES = 3
_ALL = 2**62


def replay(
    log: Path,
    events: Events,
    key: bytes,
    *,
    version: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    allow_lag_s: float = ALLOW_LAG_S,
    progress: Progress = silent,
) -> Report:
    """Recompute every logged row's history as of its time, and say why those that differ do.

    Days are worked on one by one, so that memory goes with the users of a log and not its rows.

    Args:
        log: the folder that the transformers write.
        events: what the offline data has (feature_repo.replay.events).
        key: of the log's pseudonyms.
        version: of a model; None: all.
        since, until: UTC, of rows [since, until) by when they were received.
        limit: most rows, the latest.
        allow_lag_s: how much later than its time an event may reach the online store. What is
            missing for no longer is freshness, not skew.

    Raises:
        KuberecError: there is no such folder, or a file of it cannot be read.
    """
    import duckdb

    if not Path(log).is_dir():
        raise KuberecError(
            f"no request log '{log}': name its folder, or have one written "
            "(serving.transformer.request_log.share)"
        )
    files = log_files(log, version, since, until)
    days = [(day, list(of_day)) for day, of_day in groupby(files, key=lambda file: file.day)]
    left = _ALL if limit is None else limit
    with tempfile.TemporaryDirectory() as spill, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET temp_directory = '{spill}'")
        begin(connection)
        try:
            if files:
                progress(0, len(days) + 1, "events of the users in the log")
                covered_from_us = load_events(connection, events, _paths(files), key)
            for number, (day, of_day) in enumerate(reversed(days), 1):
                progress(number, len(days) + 1, f"{day}")
                left -= judge(
                    connection,
                    _paths(of_day),
                    events,
                    covered_from_us=covered_from_us,
                    key_id=key_id(key),
                    allow_lag_s=allow_lag_s,
                    since=since,
                    until=until,
                    limit=left,
                )
                if left <= 0:
                    break
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            raise KuberecError(
                f"the log '{log}' or the events cannot be read: {str(error).splitlines()[0]}. A "
                "file that is gone was deleted meanwhile, for its age: run this again. One that is "
                "damaged: remove it"
            ) from error
        progress(len(days) + 1, len(days) + 1, "")
        return _report(connection, Path(log), allow_lag_s)


def _paths(files: Sequence[LogFile]) -> list[str]:
    return [str(file.path) for file in files]


def _report(connection: Any, log: Path, allow_lag_s: float) -> Report:
    counted = dict(
        connection.execute("SELECT cause, count(*) FROM judged GROUP BY cause").fetchall()
    )
    causes = {cause: int(counted[cause]) for cause in Cause if cause in counted}
    grouped = connection.execute(
        "SELECT model_version, day, cause, count(*) FROM judged GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    groups = [
        Group(version, day, {Cause(cause): int(rows) for _, _, cause, rows in of_group})
        for (version, day), of_group in groupby(grouped, key=lambda row: row[:2])
    ]
    quantiles = connection.execute(
        "SELECT quantile_cont(lag_s, [0.5, 0.9, 1.0]) FROM judged WHERE cause IN ($lag, $late)",
        {"lag": Cause.LAG, "late": Cause.NOT_MATERIALISED},
    ).fetchone()[0]
    return Report(
        log=str(log),
        allow_lag_s=allow_lag_s,
        causes=causes,
        groups=groups,
        lag_s=dict(zip(("p50", "p90", "max"), quantiles or (), strict=False)),
        examples={cause: _examples(connection, cause) for cause in causes if _is_shown(cause)},
    )


def _is_shown(cause: Cause) -> bool:
    return cause.kind in (Kind.SKEW, Kind.FRESHNESS, Kind.COVERAGE)


def _examples(connection: Any, cause: Cause) -> list[Example]:
    rows = connection.execute(
        "SELECT request_id, user_id, as_of_us, used, expected, missing, surplus, lag_s FROM judged "
        f"WHERE cause = $cause ORDER BY as_of_us DESC, request_id LIMIT {_EXAMPLES}",
        {"cause": cause},
    ).fetchall()
    return [
        Example(request_id, user_id, datetime.fromtimestamp(as_of_us / 1e6, UTC), *numbers)
        for request_id, user_id, as_of_us, *numbers in rows
    ]
