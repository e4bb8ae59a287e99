"""The feature stores that benchmarks.lookup asks."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from feature_repo.config import EVENT_TIME
from feature_repo.store import REPOSITORY, open_store

USERS = [f"user-{number}" for number in range(5000)]
_ITEMS = 20_000


def make_sqlite(folder: Path, version: str) -> Path:
    """An embedded store with a history of 10 to 200 ids for each of USERS."""
    folder.mkdir()
    _fill(open_store(folder), folder, version)
    return folder


def make_redis(folder: Path, port: int, version: str) -> Path:
    """The same in the Redis at `port`; its feature_store.yaml."""
    from feast import FeatureStore

    folder.mkdir()
    settings = folder / "feature_store.yaml"
    shipped = yaml.safe_load((REPOSITORY / "feature_store_redis.yaml").read_text(encoding="utf-8"))
    online = {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
    raw = shipped | {"registry": {"path": "registry.db"}, "online_store": online}
    settings.write_text(yaml.safe_dump(raw))
    _fill(FeatureStore(repo_path=str(folder)), folder, version)
    return settings


def _fill(store: Any, folder: Path, version: str) -> None:
    from feature_repo.entities import user
    from feature_repo.services import recommend_service
    from feature_repo.views import user_history

    rng = random.Random(0)
    histories = [
        [f"item-{rng.randrange(_ITEMS)}" for _ in range(rng.randint(10, 200))] for _ in USERS
    ]
    moments = [datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(len(USERS))]
    rows = pd.DataFrame(
        {
            "user_id": USERS,
            "history": histories,
            "history_times": [list(range(len(history))) for history in histories],
            "history_ranks": [[0] * len(history) for history in histories],
            "event_count": [len(history) for history in histories],
            "last_event_time": moments,
            EVENT_TIME: moments,
        }
    )
    offline = folder / "offline"
    offline.mkdir()
    pq.write_table(pa.Table.from_pandas(rows), offline / "user_history.parquet")
    view = user_history(offline)
    store.apply([user, view, recommend_service(version, view)])
    store.write_to_online_store(view.name, df=rows)
