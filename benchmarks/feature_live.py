"""From a line that is appended to a file to the history that the endpoint reads.

    .venv/bin/python -m benchmarks.feature_live

`kuberec events follow` runs as a process of its own, on SQLite and on Redis. For half a minute this
one appends events of random users, ten every 10 ms, and watches one after another of them until it
is in the user's row; then it appends many at once and waits for the last. It prints p50 and p99 of
the first, events a second of the second, and keeps them in results/feature_live.json.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from redis import Redis

from benchmarks.machine import keep
from feature_repo.live.histories import VIEW
from feature_repo.live.merge import Entry
from feature_repo.live.rows import entries_of, row_of
from feature_repo.store import SETTINGS_VARIABLE, open_store, store_folder
from feature_repo.stores.open import open_rows

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from feature_stores import redis_server, redis_store, sqlite_store

USERS, LENGTH = 5_000, 200  # histories at the start
AIM_P99_S = 1.0


def line(user: str, item: str) -> str:
    moment = datetime.now(UTC).isoformat()
    return json.dumps({"user_id": user, "item_id": item, "timestamp": moment}) + "\n"


class Scene:
    """A filled store, a consumer, and the file between."""

    def __init__(self, home: Path, settings: Path | None) -> None:
        os.environ["KUBEREC_HOME"] = str(home)
        os.environ.pop(SETTINGS_VARIABLE, None)
        if settings:
            os.environ[SETTINGS_VARIABLE] = str(settings)
        self.rows = open_rows(open_store(store_folder(home)), VIEW)
        self._fill()
        self.events = home / "events.jsonl"
        self.file = self.events.open("a", buffering=1 << 16)
        command = [str(Path(sys.executable).parent / "kuberec"), "events", "follow"]
        self.consumer = subprocess.Popen(
            [*command, str(self.events), "--user-ids", "stored"], stdout=subprocess.DEVNULL
        )
        self.append(line("u0", "first"))
        self.wait_for("u0", "first", 120)

    def _fill(self) -> None:
        start_us = 1_700_000_000_000_000
        entries = [Entry(start_us + n * 1_000_000, 0, f"item-{n:06d}") for n in range(LENGTH)]
        row = row_of(entries)
        for start in range(0, USERS, 1000):
            ids = [f"u{n}" for n in range(start, start + 1000)]
            self.rows.change(ids, lambda old: [row] * len(old))

    def append(self, text: str) -> None:
        self.file.write(text)
        self.file.flush()

    def wait_for(self, user: str, item: str, seconds: float) -> float:
        """When it was seen in the row, by the monotonic clock."""
        deadline = time.monotonic() + seconds
        while True:
            (row,) = self.rows.read([user])
            if any(each.item == item for each in entries_of(row)[0][-100:]):
                return time.monotonic()
            if time.monotonic() > deadline:
                raise TimeoutError(f"'{item}' is not in the history of '{user}'")
            time.sleep(0.001)

    def close(self) -> None:
        self.consumer.send_signal(signal.SIGTERM)
        self.consumer.wait(60)
        self.file.close()
        self.rows.close()


def latencies(scene: Scene, seconds: float, rate: int) -> dict[str, Any]:
    """Of events watched while `rate` a second come in."""
    chance = random.Random(0)
    every = 0.01
    found: list[float] = []
    watched: tuple[str, str, float] | None = None
    began = time.monotonic()
    count = 0
    while (now := time.monotonic()) - began < seconds:
        due = int((now - began) * rate) - count
        if due:
            users = [f"u{chance.randrange(USERS)}" for _ in range(due)]
            items = [f"live-{count + n}" for n in range(due)]
            scene.append("".join(map(line, users, items)))
            if watched is None:
                watched = users[-1], items[-1], time.monotonic()
            count += due
        if watched is not None:
            user, item, at = watched
            (row,) = scene.rows.read([user])
            if any(each.item == item for each in entries_of(row)[0][-100:]):
                found.append(time.monotonic() - at)
                watched = None
        time.sleep(max(0.0, min(0.002, every - (time.monotonic() - now))))
    p50, p99 = np.percentile(found, [50, 99]).tolist()
    return {
        "events_per_s": count / (time.monotonic() - began),
        "watched": len(found),
        "p50_ms": 1000 * p50,
        "p99_ms": 1000 * p99,
        "max_ms": 1000 * max(found),
    }


def throughput(scene: Scene, events: int) -> float:
    """Events a second that a consumer works off, of a backlog."""
    chance = random.Random(1)
    backlog = [line(f"u{chance.randrange(USERS)}", f"much-{n}") for n in range(events)]
    began = time.monotonic()
    scene.append("".join(backlog) + line("u1", "last of many"))
    return events / (scene.wait_for("u1", "last of many", 600) - began)


def measure(seconds: float, rate: int, backlog: int) -> dict[str, Any]:
    figures = {}
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as redis:
        # As the shipped redis.conf has it; a test's server waits for the disk at every write.
        Redis(port=redis.port).config_set("appendfsync", "everysec")
        makers: dict[str, Callable[[Path], Path | None]] = {
            "sqlite": lambda store: sqlite_store(store) and None,
            "redis": lambda store: redis_store(store, redis.port),
        }
        for kind, make in makers.items():
            home = Path(folder) / kind
            scene = Scene(home, make(store_folder(home)))
            try:
                figures[kind] = latencies(scene, seconds, rate)
                figures[kind]["backlog_events_per_s"] = throughput(scene, backlog)
            finally:
                scene.close()
            print(
                f"{kind:<7} {figures[kind]['events_per_s']:,.0f} events/s: p50 "
                f"{figures[kind]['p50_ms']:.0f} ms, p99 {figures[kind]['p99_ms']:.0f} ms (aim < "
                f"{1000 * AIM_P99_S:.0f}), longest {figures[kind]['max_ms']:.0f} ms of "
                f"{figures[kind]['watched']:,} watched; backlog worked off at "
                f"{figures[kind]['backlog_events_per_s']:,.0f} events/s",
                flush=True,
            )
    return figures | {"users": USERS, "history_length": LENGTH, "load_average": os.getloadavg()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=int, default=1000, help="events a second")
    parser.add_argument("--backlog", type=int, default=50_000, help="events")
    asked = parser.parse_args()
    figures = measure(asked.seconds, asked.rate, asked.backlog)
    print(keep("feature_live", ("feast", "redis", "confluent-kafka"), figures))


if __name__ == "__main__":
    main()
