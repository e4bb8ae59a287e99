"""Training windows: leave-one-out cut-offs on the k-core, and the histories as of them.

Per user of the core, the last first-time event is the test target, the one before it the valid
target; a target's history is everything strictly before it, of any item. The train history is the
valid target's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from feature_repo.config import EVENT_TIME
from recommender.errors import KuberecError
from recommender.kcore import k_core

WINDOWS = pa.schema(
    [
        ("user_id", pa.string()),
        ("cutoff", pa.timestamp("us", tz="UTC")),
        ("split", pa.string()),
        ("history", pa.list_(pa.string())),
        ("target", pa.string()),
    ]
)


class FeatureError(KuberecError):
    """Features that cannot be built from this data."""


@dataclass(frozen=True)
class Targets:
    """Two targets a core user: arrays of one length, sorted by user, valid before test."""

    users: np.ndarray  # str
    items: np.ndarray  # str
    cutoffs: np.ndarray  # datetime64[us], UTC: the target's own event_time
    before: np.ndarray  # int64: events of the user before the target
    vocabulary: list[str]  # the core's items, sorted
    core_users: int
    core_events: int


def find_targets(events: pa.Table, k: int) -> Targets:
    """The leave-one-out targets of the `k`-core.

    Args:
        events: user_id, item_id, event_time, number as of feature_repo.offline, any order. Of
            several events of one user with one item the first counts, so that no target is in its
            own history.

    Raises:
        FeatureError: nobody is in the core.
    """
    ordered = events.sort_by([("user_id", "ascending"), (EVENT_TIME, "ascending")])
    users, items = (ordered[name].to_numpy() for name in ("user_id", "item_id"))
    first = _first_of_pair(users, items)
    core = first[k_core(users[first], items[first], k)]
    if not len(core):
        raise FeatureError(
            f"no users and items have {k} events of each other ({len(users):,} events): "
            "lower features.k_core, or bring more events"
        )
    last = np.append(np.flatnonzero(users[core][1:] != users[core][:-1]), len(core) - 1)
    rows = core[np.stack([last - 1, last], axis=1).ravel()]
    times = ordered[EVENT_TIME].cast(pa.timestamp("us")).to_numpy()
    return Targets(
        users=users[rows],
        items=items[rows],
        cutoffs=times[rows],
        before=ordered["number"].to_numpy()[rows] - 1,
        vocabulary=sorted(set(items[core])),
        core_users=len(last),
        core_events=len(core),
    )


def join_histories(store: Any, service: Any, targets: Targets, length: int) -> pa.Table:
    """Feast's point-in-time join at the targets: user_id, event_timestamp, history, event_count.

    Feast takes rows up to and with a time, so it is asked for one microsecond before each cut-off.

    Raises:
        RuntimeError: a history does not hold exactly the events before its target.
    """
    import pandas as pd

    asked_times = targets.cutoffs.astype(np.int64) - 1
    moments = pd.to_datetime(asked_times, unit="us", utc=True)
    asked = pd.DataFrame({"user_id": targets.users, "event_timestamp": moments})
    joined = store.get_historical_features(entity_df=asked, features=service).to_arrow()
    by_key = dict(
        zip(
            zip(
                joined["user_id"].to_pylist(), _microseconds(joined["event_timestamp"]), strict=True
            ),
            range(len(joined)),
            strict=True,
        )
    )
    # Feast returns its rows in another order: they are found again by user and time.
    rows = [by_key[key] for key in zip(targets.users, asked_times.tolist(), strict=True)]
    joined = joined.take(pa.array(rows))
    counts = joined["event_count"].to_numpy(zero_copy_only=False)
    expected = np.minimum(targets.before, length)
    wrong = np.flatnonzero(counts != expected)
    if len(joined) != len(targets.users) or len(wrong):
        row = int(wrong[0]) if len(wrong) else 0
        raise RuntimeError(
            f"point-in-time join: {len(wrong)} of {len(targets.users)} histories differ from what "
            f"came before; user '{targets.users[row]}' at {targets.cutoffs[row]}: "
            f"{counts[row]} events, expected {expected[row]}"
        )
    return joined


def windows_table(targets: Targets, histories: pa.Array) -> pa.Table:
    """windows.parquet: train, valid and test row of each user; a history for each of `targets`."""
    valid = np.arange(0, len(targets.users), 2)
    rows = np.stack([valid, valid, valid + 1], axis=1).ravel()
    split = np.tile(np.array(["train", "valid", "test"], dtype=object), len(valid))
    return pa.table(
        [
            pa.array(targets.users[rows]),
            pa.array(targets.cutoffs[rows]).cast(WINDOWS.field("cutoff").type),
            pa.array(split),
            histories.take(pa.array(rows)),
            pa.array(targets.items[rows], pa.string(), mask=split == "train"),
        ],
        schema=WINDOWS,
    )


def _first_of_pair(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Indices, ascending, of each (user, item)'s first occurrence."""
    user = np.unique(users, return_inverse=True)[1].astype(np.int64)
    distinct, item = np.unique(items, return_inverse=True)
    return np.sort(np.unique(user * len(distinct) + item, return_index=True)[1])


def _microseconds(times: pa.ChunkedArray) -> list[int]:
    return times.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
