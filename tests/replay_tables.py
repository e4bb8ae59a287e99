"""Offline events and request logs in miniature, for replays of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.offline import ABOUT, EVENTS
from feature_repo.replay.log_files import SCHEMA, partition
from recommender.files import write_json
from recommender.pseudonyms import key_id, pseudonym

KEY = b"a key of the tests alone, 1"
UTC_US = pa.timestamp("us", tz="UTC")
History = Sequence[tuple[int, str]]  # (µs since 1970, item), in the order of (time, rank)


def write_events(folder: Path, histories: Mapping[str, History], length: int, until: int) -> Path:
    """Offline tables as far as a replay reads them: events by user, strictly increasing in time."""
    rows: list[tuple[str, str, int, int]] = []
    for user, history in histories.items():
        latest = -1
        for time_us, item in history:
            latest = max(time_us, latest + 1)
            rows.append((user, item, time_us, latest))
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    table = pa.table(
        {
            "user_id": pa.array(columns[0], pa.string()),
            "item_id": pa.array(columns[1], pa.string()),
            "timestamp": pa.array(columns[2], pa.int64()).cast(UTC_US),
            "event_time": pa.array(columns[3], pa.int64()).cast(UTC_US),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / EVENTS)
    write_json(folder / ABOUT, {"history_length": length, "covered_until_us": until})
    return folder


def log_row(user: str, used: History | None, as_of_us: int, **changes: Any) -> dict[str, Any]:
    """A row of a request log; `used` None: the store had no row of the user."""
    moment = datetime.fromtimestamp(as_of_us / 1e6, UTC)
    return {
        "request_id": "r",
        "row": 0,
        "received": moment,
        "as_of": as_of_us,
        "user_id": pseudonym(user, KEY),
        "user_key": key_id(KEY),
        "view": "user_history",
        "service": "recommend_v1",
        "model_version": "v1",
        "history": [item for _, item in used or ()],
        "history_times": None if used is None else [time_us for time_us, _ in used],
        "event_time": None,
        "feature_age_s": 1.0,
        "feature_status": "unknown" if used is None else "ok",
        "item_ids": ["x"],
        "scores": [1.0],
        "k": None,
        "exclude": [],
        "latency_ms": 1.0,
    } | changes


def write_log(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A file for each version and day."""
    places: dict[Path, list[dict[str, Any]]] = {}
    for row in rows:
        place = partition(folder, row["model_version"], row["received"].date())
        places.setdefault(place, []).append(row)
    for place, of_place in places.items():
        place.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(of_place, SCHEMA), place / "part-1.parquet")
    return folder
