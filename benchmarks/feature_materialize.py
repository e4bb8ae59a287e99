"""`make bench-features`, its second: users materialised into SQLite and Redis, beside Feast itself.

Each run is a process of its own over the same offline tables. Ours is all of
feature_repo.materialize.home, Feast's is FeatureStore.materialize of the one view, after `apply`.
Then one user in a hundred has one more event, and only what changed is to be written. Every row of
both is compared, as bytes, and a sample is read by Feast.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.lookup import redis_server
from benchmarks.machine import RESULTS, keep
from benchmarks.materialize_content import digest, redis_rows, sample, sqlite_rows
from benchmarks.materialize_tables import CHANGED_EVERY, write_tables
from feature_repo.store import SETTINGS_VARIABLE, open_store, store_folder

SYSTEMS, STORES, MODES = ("kuberec", "feast"), ("sqlite", "redis"), ("all", "increment")
LEAST_TIMES_FASTER = 3.0
_SAMPLE = 1000
_SETTINGS = """\
project: kuberec
provider: local
registry: {{path: "{registry}"}}
online_store: {{type: redis, connection_string: "127.0.0.1:{port}"}}
offline_store: {{type: duckdb}}
entity_key_serialization_version: 3
"""


FEAST_BYTES = 17_000  # a user, of Feast's peak


def main() -> None:
    """Make the tables, measure, compare, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument(
        "--feast-users",
        type=int,
        help="of those that both are measured on, by default all: Feast has all rows in memory at "
        "once, 3.5 GiB of 200,000 users, 16 GiB of a million",
    )
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the tables and stores")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    arguments = parser.parse_args()
    feast_users = min(arguments.feast_users or arguments.users, arguments.users)
    if (missing := feast_users * FEAST_BYTES - _available()) > 0:
        parser.error(
            f"--feast-users {feast_users}: Feast would need {missing / 2**30:.1f} GiB more than "
            "this machine has free; take fewer"
        )
    figures: dict[str, Any] = {"load_before": os.getloadavg()[0], "sets": [], "runs": []}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        for users in sorted({arguments.users, feast_users}):
            folder = Path(name) / str(users)
            started = time.perf_counter()
            events = write_tables(folder / "all", users, arguments.seed, changed=False)
            write_tables(folder / "increment", users, arguments.seed, changed=True)
            made_s = time.perf_counter() - started
            print(f"{users:,} users, {events:,} events, made in {made_s:.0f} s", flush=True)
            figures["sets"].append({"users": users, "events": events, "seconds": made_s})
            systems = SYSTEMS if users == feast_users else SYSTEMS[:1]
            for store in arguments.stores:
                figures["runs"] += measure(folder, store, systems, users)
    figures["load_after"] = os.getloadavg()[0]
    Console().print(as_table(figures["runs"]))
    for line in findings(figures["runs"], feast_users):
        print(line)
    packages = ("feast", "redis", "hiredis", "duckdb", "pyarrow", "protobuf")
    print(f"kept in {keep('feature_materialize', packages, figures, arguments.results)}")


def _available() -> int:
    """Bytes of memory that can be had."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return 1024 * int(kib)


def measure(folder: Path, store: str, systems: tuple[str, ...], users: int) -> list[dict[str, Any]]:
    """All runs into one kind of store; the systems one after the other, each into its own."""
    found: list[dict[str, Any]] = []
    contents: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
    for system in systems:
        home = folder / f"{store} of {system}"
        home.mkdir()
        with server(store, home) as port:
            for mode in MODES:
                run = {"users": users, "store": store, "system": system, "mode": mode}
                run |= worker(system, mode, folder / mode, home)
                started = time.perf_counter()
                contents[mode][system] = content(home, port, users)
                run["digest_s"] = time.perf_counter() - started
                run["rows_in_store"], run["digest"] = contents[mode][system][0]
                print(f"  {run}", flush=True)
                found.append(run)
    for mode, by_system in contents.items():
        if len({str(each) for each in by_system.values()}) != 1:
            sys.exit(f"{store}, {mode}: they do not write the same rows")
    return found


@contextmanager
def server(store: str, home: Path) -> Iterator[int | None]:
    """A Redis for the block, named by the environment; None for SQLite."""
    os.environ.pop(SETTINGS_VARIABLE, None)
    if store == "sqlite":
        yield None
        return
    with redis_server(home) as port:
        settings = home / "feature_store.yaml"
        registry = store_folder(home) / "registry.db"
        settings.write_text(_SETTINGS.format(registry=registry, port=port))
        os.environ[SETTINGS_VARIABLE] = str(settings)
        yield port
    del os.environ[SETTINGS_VARIABLE]


def worker(system: str, mode: str, tables: Path, home: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.materialize_worker", system, mode]
    done = subprocess.run(
        [*command, str(tables), str(home)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def content(home: Path, port: int | None, users: int) -> tuple[tuple[int, str], list[Any]]:
    """(rows, digest) of the whole store, and a sample as Feast reads it."""
    store = open_store(store_folder(home))
    numbers = random.Random(users).sample(range(users), min(users, _SAMPLE))
    rows = redis_rows(port) if port else sqlite_rows(store_folder(home) / "online.db")
    return digest(rows), sample(store, [f"user-{number}" for number in numbers])


def findings(runs: list[dict[str, Any]], feast_users: int) -> list[str]:
    """Ratios, each with what it should be."""
    at = {
        (run["store"], run["system"], run["mode"]): run
        for run in runs
        if run["users"] == feast_users
    }
    lines = []
    for store in STORES:
        for mode in MODES:
            ours, theirs = (at.get((store, system, mode)) for system in SYSTEMS)
            if not ours or not theirs:
                continue
            ratio = theirs["seconds"] / ours["seconds"]
            aim = f" (aim: at least {LEAST_TIMES_FASTER:g})" if mode == "all" else ""
            lines.append(
                f"{store}, {mode}, {feast_users:,} users: {ratio:.1f} times as fast as Feast{aim}, "
                f"{theirs['processor_s'] / ours['processor_s']:.1f} times by processor time, "
                f"{theirs['peak_mib'] / ours['peak_mib']:.1f} times less memory, the same bytes"
            )
    for run in runs:
        if run["users"] != feast_users and run["mode"] == MODES[0]:
            lines.append(
                f"{run['store']}, {run['users']:,} users: {run['users'] / run['seconds']:,.0f} "
                f"users/s, {run['peak_mib']:,} MiB at most; Feast was not measured on these"
            )
    return lines


def as_table(runs: list[dict[str, Any]]) -> Table:
    table = Table(title=f"Users into an online store; increment: 1 in {CHANGED_EVERY} changed")
    for name in ("users", "store", "mode", "system", "s", "processor s", "users/s", "peak MiB"):
        left = name in ("store", "mode", "system")
        table.add_column(name, justify="left" if left else "right")
    for run in runs:
        table.add_row(
            f"{run['users']:,}",
            *(run[name] for name in ("store", "mode", "system")),
            f"{run['seconds']:.1f}",
            f"{run['processor_s']:.1f}",
            f"{run['users'] / run['seconds']:,.0f}",
            f"{run['peak_mib']:,}",
        )
    return table


if __name__ == "__main__":
    main()
