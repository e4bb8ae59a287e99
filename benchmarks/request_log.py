"""What the request log costs the answers: transformers that log none, one in a hundred and all of
them, side by side on one Triton.

    python -m benchmarks.request_log [--quick] [VERSION FOLDER] [FEATURE STORE FOLDER]

By default the version that serves from this state home, or served last, and its feature store. The
three are asked in turn, round by round, by the load generator of the other benchmarks. Beside p50,
p99 and answers/s: the processor's time that the transformer takes for an answer, which other work
on the machine changes least. Writes results/request_log.json.
"""

import argparse
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.batching import installed_version
from benchmarks.figures import summarise
from benchmarks.machine import keep
from benchmarks.usage import processor_s
from benchmarks.worker import Sample, Worker
from components.step import state_home
from feature_repo.store import store_folder
from recommender.errors import KuberecError
from serving.client.requests import build_request
from serving.embedded.transformer import (
    TransformerPorts,
    TransformerServer,
    launch_transformer,
    wait_for_transformer,
)
from serving.ports import free_ports
from serving.settings import TransformerConfig
from serving.triton.server import temporary_triton

LEVELS = (1, 16, 64)  # requests in flight
SHARES = {"no log": 0.0, "1 % logged": 0.01, "all logged": 1.0}
OFF, *LOGGED = SHARES
USERS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.request_log", description=__doc__)
    parser.add_argument("version", type=Path, nargs="?")
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--quick", action="store_true", help="one short round: a check")
    args = parser.parse_args()
    rounds, seconds, warm_s = (1, 1.0, 0.3) if args.quick else (7, 3.0, 0.5)
    load = os.getloadavg()[0]
    try:
        version = args.version or installed_version()
        store = args.store or store_folder(state_home())
        figures = measure(version, store, rounds, seconds, warm_s)
    except KuberecError as error:
        sys.exit(f"error: {error}")
    figures |= {"quick": args.quick, "load_before": load}
    for level in LEVELS:
        for system in SHARES:
            print(f"{level:>3} in flight  {system:<10}  {shown(figures[system][level])}")
        for system in LOGGED:
            print(f"  {system} / {OFF}: {ratio(figures[OFF][level], figures[system][level])}")
    print(f"{figures['rows']:,} rows written of {figures['asked']:,} answers")
    if not args.quick:
        print(f"kept in {keep('request_log', ('kserve', 'pyarrow', 'feast'), figures)}")


def measure(
    version: Path, store: Path, rounds: int, seconds: float, warm_s: float
) -> dict[str, Any]:
    """Figures by system and requests in flight; rows that were logged of how many answers."""
    users = pq.read_table(store / "offline" / "user_history.parquet", columns=["user_id"])
    names = users["user_id"].unique().to_pylist()[:USERS]
    requests = [build_request([user], None, None, None, None) for user in names]
    raw = [request.SerializeToString().hex() for request in requests]
    samples: dict[tuple[str, int], list[Sample]] = {}
    cpu_ms: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="kuberec-log-") as name:
        folder = Path(name)
        with running(version, store, folder) as servers:
            targets = {
                system: {"kind": "grpc", "address": server.grpc_url, "requests": raw}
                for system, server in servers.items()
            }
            with Worker("benchmarks.load", targets) as worker:
                for number, level in product(range(rounds), LEVELS):
                    # Who comes first in one round comes second in the next.
                    for system in [*SHARES] if number % 2 else reversed(SHARES):
                        process = servers[system].process
                        before = processor_s(process)
                        sample = worker.measure(
                            target=system, in_flight=level, seconds=seconds, warm_s=warm_s
                        )
                        spent = processor_s(process) - before
                        if sample.errors or not len(sample.latencies_ms):
                            raise KuberecError(f"{system}: {sample.errors or 'no answer'}")
                        samples.setdefault((system, level), []).append(sample)
                        per_answer = spent * 1e3 / sample.requests
                        cpu_ms.setdefault((system, level), []).append(per_answer)
        log = folder / "all-logged" / "log"
        rows = ds.dataset(log, format="parquet", partitioning=None).count_rows()
    found: dict[str, Any] = {
        system: {
            level: summarise(samples[system, level]) | {"round_cpu_ms": cpu_ms[system, level]}
            for level in LEVELS
        }
        for system in SHARES
    }
    asked = sum(each.requests for level in LEVELS for each in samples["all logged", level])
    return found | {"rows": rows, "asked": asked}


@contextmanager
def running(version: Path, store: Path, folder: Path) -> Iterator[dict[str, TransformerServer]]:
    """All transformers, ready, on one Triton; the logs are written when the block ends."""
    os.environ["KUBEREC_LOG_KEY"] = secrets.token_hex(32)
    with ExitStack() as undo:
        triton = undo.enter_context(temporary_triton(version, folder / "triton"))
        servers = {}
        for system, share in SHARES.items():
            place = folder / system.replace(" ", "-")
            place.mkdir()
            log = {"share": share, "folder": str(place / "log")}
            server = launch_transformer(
                version,
                TransformerPorts(*free_ports(2)),
                triton.grpc_port,
                store,
                TransformerConfig.model_validate({"request_log": log}),
                place / "settings.json",
                place / "transformer.log",
            )
            undo.callback(server.stop)
            servers[system] = server
        for server in servers.values():
            wait_for_transformer(server, 60, lambda message: None)
        yield servers


def shown(level: dict[str, Any]) -> str:
    return (
        f"p50 {level['p50_ms']:.2f} ms, p99 {level['p99_ms']:.2f} ms, "
        f"{level['answers_per_s']:,.0f} answers/s, {min(level['round_cpu_ms']):.3f} CPU ms"
    )


def ratio(off: dict[str, Any], on: dict[str, Any]) -> str:
    """Of all rounds together; of processor time, of the best rounds."""
    names = ("p50_ms", "p99_ms", "answers_per_s")
    found = [f"{name} {on[name] / off[name]:.2f}" for name in names]
    return f"{', '.join(found)}, CPU {min(on['round_cpu_ms']) / min(off['round_cpu_ms']):.2f}"


if __name__ == "__main__":
    main()
