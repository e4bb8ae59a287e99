"""Offline tables, and training windows by Feast's point-in-time join."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.config import FeatureConfig
from feature_repo.offline import ABOUT, timed_events, write_offline
from feature_repo.store import open_embedded, release_duckdb
from feature_repo.windows import Targets, find_targets, join_histories, windows_table
from recommender.files import atomic_directory, read_json, write_json

Progress = Callable[[int, int, str], None]
_STEPS = 4


def build_features(
    snapshot_dir: Path,
    vectors_dir: Path,
    config: FeatureConfig,
    out_dir: Path,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the folder `out_dir`: offline/, windows.parquet, vocabulary.json, features.json.

    The join runs on a store of its own that is thrown away; nothing that serves is touched
    (`feature_repo.online.materialize` does that).

    Returns:
        The content of features.json.

    Raises:
        FeatureError: the k-core is empty.
    """
    tell = progress or (lambda done, total, message: None)
    with atomic_directory(out_dir) as draft:
        offline = draft / "offline"
        offline.mkdir()
        tell(0, _STEPS, "histories")
        connection = ibis.duckdb.connect()
        try:
            connection.raw_sql("SET TimeZone = 'UTC'").fetchall()
            timed = timed_events(connection, snapshot_dir)
            write_offline(
                connection, timed, snapshot_dir, vectors_dir, config.history_length, offline
            )
            tell(1, _STEPS, "cut-offs")
            events = connection.to_pyarrow(timed)
        finally:
            connection.disconnect()
        targets = find_targets(events, config.k_core)
        tell(2, _STEPS, "point-in-time join")
        joined = join_offline(offline, targets)
        tell(3, _STEPS, "windows")
        windows = windows_table(targets, joined["history"].combine_chunks())
        pq.write_table(windows, draft / "windows.parquet", compression="zstd")
        write_json(draft / "vocabulary.json", targets.vocabulary)
        summary = _summary(config, targets, events)
        write_json(draft / "features.json", summary)
    tell(_STEPS, _STEPS, "")
    return summary


def join_offline(offline: Path, targets: Targets) -> pa.Table:
    """`join_histories` over the tables in `offline`, on a store that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_embedded(Path(folder))
        from feature_repo.entities import user
        from feature_repo.services import TRAINING, recommend_service
        from feature_repo.views import user_history

        view = user_history(offline)
        service = recommend_service(TRAINING, view)
        store.apply([user, view, service])
        try:
            return join_histories(
                store, service, targets, read_json(offline / ABOUT)["history_length"]
            )
        finally:
            release_duckdb()


def _summary(config: FeatureConfig, targets: Targets, events: pa.Table) -> dict[str, Any]:
    return {
        "counts": {
            "users": targets.core_users,
            "items": len(targets.vocabulary),
            "events": targets.core_events,
            "all_users": len(events["user_id"].unique()),
            "all_events": len(events),
            "longest_history": int(np.max(events["number"].to_numpy())),
        },
        "k_core": config.k_core,
        "history_length": config.history_length,
        "sample_users": _sample_users(targets),
    }


def _sample_users(targets: Targets) -> list[str]:
    """Three users to show: a quarter, half and three quarters up the lengths of histories."""
    users, lengths = targets.users[1::2], targets.before[1::2]
    order = np.lexsort((users, lengths))
    places = [len(order) // 4, len(order) // 2, 3 * len(order) // 4]
    return [str(users[order[place]]) for place in dict.fromkeys(places)]
