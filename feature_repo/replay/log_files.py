"""The request log: what serving keeps of its answers, as parquet files by version and day.

`<folder>/version=<model version>/date=<UTC day>/part-….parquet`, one row a user of a request. A
file is there whole or not at all; what begins with a dot is no part of the log.
"""

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

FOLDER = "request_log"  # in the state home
_VERSION, _DATE = "version=", "date="
_TIME = pa.timestamp("us", tz="UTC")

SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("row", pa.int32()),  # of the request, from 0
        ("received", _TIME),
        ("as_of", _TIME),  # when its features had been read
        ("user_id", pa.string()),  # a pseudonym; null where the client gave a history and no id
        ("user_key", pa.string()),  # which key it was made with: recommender.pseudonyms.key_id
        ("view", pa.string()),
        ("service", pa.string()),
        ("model_version", pa.string()),
        ("history", pa.list_(pa.string())),  # as used, oldest first
        ("history_times", pa.list_(pa.int64())),  # of each, µs since 1970; null where not stored
        ("event_time", _TIME),  # of the stored row; null where there is none
        ("feature_age_s", pa.float64()),
        ("feature_status", pa.string()),
        ("item_ids", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("k", pa.int32()),  # as asked; null: all that there are
        ("exclude", pa.list_(pa.string())),
        ("latency_ms", pa.float32()),  # from the decoded request to the answer, ours alone
    ]
)


class LogFile(NamedTuple):
    """One file of a log, and what its place says of its rows."""

    path: Path
    version: str
    day: date  # UTC, of `received`


def partition(folder: Path, version: str, day: date) -> Path:
    """Where the files of a version's day lie."""
    return folder / f"{_VERSION}{version}" / f"{_DATE}{day.isoformat()}"


def log_files(
    folder: Path,
    version: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[LogFile]:
    """Files that may have rows of [since, until), oldest day first; of one version or of all."""
    files = [
        file
        for file in _all_files(folder)
        if (version is None or file.version == version)
        and (since is None or file.day >= since.date())
        and (until is None or file.day <= until.date())
    ]
    return sorted(files, key=lambda file: (file.day, file.version, file.path))


def _all_files(folder: Path) -> Iterator[LogFile]:
    for path in Path(folder).glob(f"{_VERSION}*/{_DATE}*/*.parquet"):
        if path.name.startswith("."):
            continue
        try:
            day = date.fromisoformat(path.parent.name.removeprefix(_DATE))
        except ValueError:
            continue
        yield LogFile(path, path.parent.parent.name.removeprefix(_VERSION), day)
