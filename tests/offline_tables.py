"""Offline tables as feature_repo.offline.build leaves them, of a few users or many."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.config import EVENT_TIME
from feature_repo.stores.layout import to_us
from recommender.files import write_json

# User, items oldest first, time of the last event; the others are a second apart.
Rows = Sequence[tuple[str, list[str], datetime]]
_STAMP = pa.timestamp("us", tz="UTC")


def tables(folder: Path, rows: Rows, covered: datetime | None = None) -> Path:
    """offline/ of a folder, which is returned: the users' rows, and one item.

    Args:
        covered: the time of the data's last event, if that is not the last of `rows`.
    """
    offline = folder / "offline"
    offline.mkdir(parents=True)
    users, histories, times = zip(*rows, strict=True)
    history = pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "history": pa.array(histories, pa.list_(pa.string())),
            "history_times": pa.array(
                [event_times(*row[1:]) for row in rows], pa.list_(pa.int64())
            ),
            "history_ranks": pa.array(
                [[0] * len(each) for each in histories], pa.list_(pa.int64())
            ),
            "event_count": pa.array([len(each) for each in histories], pa.int64()),
            "last_event_time": pa.array(times, _STAMP),
            EVENT_TIME: pa.array(times, _STAMP),
        }
    )
    pq.write_table(history, offline / "user_history.parquet", row_group_size=1000)
    items = pa.table(
        {
            "item_id": ["item-1"],
            "title": ["One"],
            "categories": pa.array([["kind"]]),
            "popularity": pa.array([1], pa.int64()),
            "vector": pa.array([[1.0, 0.0]], pa.list_(pa.float32())),
            EVENT_TIME: pa.array([max(times)], _STAMP),
        }
    )
    pq.write_table(items, offline / "item_features.parquet")
    about = {"history_length": 50, "covered_until_us": to_us(covered or max(times))}
    write_json(offline / "offline.json", about)
    return folder


def event_times(history: list[str], last: datetime) -> list[int]:
    """Of each event, microseconds since 1970."""
    return [to_us(last - timedelta(seconds=back)) for back in reversed(range(len(history)))]
