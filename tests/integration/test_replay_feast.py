"""What a replay expects is what Feast's own point-in-time join gives, from tables and from the
snapshot they are made of."""

import random
from pathlib import Path

import pandas as pd
import pytest
from replay_tables import KEY, log_row, write_log
from test_features import random_log, write_inputs

from feature_repo.config import FeatureConfig
from feature_repo.offline.build import build_features
from feature_repo.replay.causes import Cause
from feature_repo.replay.events import offline_events
from feature_repo.replay.replay import replay
from feature_repo.replay.snapshot import snapshot_events
from feature_repo.store import open_embedded, release_duckdb

pytestmark = pytest.mark.timeout(120)
CONFIG = FeatureConfig(k_core=3, history_length=12, offline_rows="all")
LAST_US = 20_000_000
ROWS = 500


def test_histories_of_feast_s_join_are_no_skew_and_changed_ones_are(tmp_path: Path) -> None:
    log = random_log(5, users=15)
    snapshot = write_inputs(tmp_path, log)
    build_features(snapshot, tmp_path / "item_vectors", CONFIG, tmp_path / "windows")
    rng = random.Random(6)
    times = [time for _, _, time, _ in log]
    asked = pd.DataFrame(
        {
            "user_id": [f"u{rng.randrange(18)}" for _ in range(ROWS)],
            # Half of them to the microsecond of an event, or a few beside it.
            "event_timestamp": [
                rng.choice(
                    [rng.randint(min(times), LAST_US), rng.choice(times) + rng.randint(0, 9)]
                )
                for _ in range(ROWS)
            ],
            "row": range(ROWS),
        }
    )
    moments = list(asked["event_timestamp"])
    asked["event_timestamp"] = pd.to_datetime(asked["event_timestamp"], unit="us", utc=True)
    store = open_embedded(tmp_path / "join")
    from feature_repo.entities import user
    from feature_repo.views import user_history

    view = user_history(tmp_path / "windows" / "offline")
    store.apply([user, view])
    names = ["user_history:history", "user_history:history_times"]
    joined = store.get_historical_features(asked, features=names).to_arrow().to_pylist()
    release_duckdb()
    rows = []
    for row in joined:
        history, times_us = row["history"], row["history_times"]
        used = None if history is None else list(zip(times_us, history, strict=True))
        rows.append(log_row(row["user_id"], used, moments[row["row"]]))
    assert len([row for row in rows if row["history"]]) > ROWS / 2
    (tmp_path / "work").mkdir()
    sources = (
        offline_events(tmp_path / "windows"),
        snapshot_events(snapshot, CONFIG.history_length, tmp_path / "work"),
    )
    write_log(tmp_path / "log", rows)
    for events in sources:
        assert replay(tmp_path / "log", events, KEY).causes == {Cause.MATCH: ROWS}

    for row in rows:
        row["history"] = row["history"][:-1]
        row["history_times"] = (row["history_times"] or [])[:-1]
    write_log(tmp_path / "shorter", rows)
    for events in sources:
        found = replay(tmp_path / "shorter", events, KEY, allow_lag_s=0)
        assert found.causes[Cause.MATCH] == sum(row["feature_status"] == "unknown" for row in rows)
