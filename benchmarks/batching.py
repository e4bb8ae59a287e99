"""How the embedded server should batch: settings of Triton on one version's graphs, side by side.

    python -m benchmarks.batching [--quick] [VERSION FOLDER]

By default the version that serves from this state home, or served last; what is not varied is as
TritonConfig has it. First the number of instances, then, with the best of them, preferred batch
sizes and queue delays. Every setting gets a server of its own, one after the other, and all of them
again in every round.

Settings are compared by the processor time that the server and its stubs take for an answer: the
cores of a machine over that time are the answers/s that it can give, and on one that does other
things too, answers/s tell more of those (of one setting measured twice they differed by 1.5).

Writes results/batching.json, from which the defaults of serving.settings.TritonConfig come (see
there for how far they follow it): nothing is measured at export, so that a version's id stays a
function of what went into it.
"""

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.figures import summarise
from benchmarks.machine import keep
from benchmarks.usage import processor_s
from benchmarks.worker import Sample, Worker
from components.step import state_home
from recommender.errors import KuberecError
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.ports import free_ports
from serving.settings import TritonConfig
from serving.triton.repository import MODELS, graph_path, write_repository
from serving.triton.server import Ports, start_triton
from serving.version import load_version

LEVELS = (1, 16, 64)  # requests in flight
INSTANCES = (1, 2)
PREFERRED = ((), (8,), (16,))
DELAYS_US = (0, 200, 1000)
SLOWER = 1.1  # p50 of one request alone, times the best found: not worth any throughput beyond it


class Setting(NamedTuple):
    """What is varied."""

    instances: int = 1
    preferred: tuple[int, ...] = ()
    delay_us: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batching", description=__doc__)
    parser.add_argument("version", type=Path, nargs="?", help="folder of an exported version")
    parser.add_argument("--quick", action="store_true", help="one short round: a check")
    args = parser.parse_args()
    rounds, seconds, warm_s = (1, 0.3, 0.1) if args.quick else (3, 1.5, 0.3)
    load = os.getloadavg()[0]
    try:
        version = load_version(args.version or installed_version())
        with tempfile.TemporaryDirectory(prefix="kuberec-batching-") as folder:
            bench = Bench(version.directory, Path(folder), seconds, warm_s)
            instances = bench.sweep([Setting(count) for count in INSTANCES], rounds)
            count = best(instances)
            grid = [
                count._replace(preferred=sizes, delay_us=delay)
                for sizes, delay in product(PREFERRED, DELAYS_US)
            ]
            batching = bench.sweep(grid, rounds)
    except KuberecError as error:
        sys.exit(f"error: {error}")
    show("instances", instances)
    show("batching", batching)
    chosen = best(batching)
    print(f"best: {chosen}")
    figures = {
        "version": version.version,
        "quick": args.quick,
        "load_before": load,
        "best": chosen._asdict(),
        "instances": as_rows(instances),
        "batching": as_rows(batching),
    }
    if not args.quick:
        print(f"kept in {keep('batching', ('onnxruntime', 'tritonclient'), figures)}")


def installed_version() -> Path:
    """The version that serves, or served last, from the state home."""
    endpoint = EmbeddedEndpoint(state_home())
    current = endpoint.state().current
    if current is None:
        raise KuberecError(
            "there is no version to measure: `kuberec run` makes one, or name an exported one's "
            "folder (python -m benchmarks.batching FOLDER)"
        )
    return endpoint.home.versions / current


Results = dict[Setting, dict[int, dict[str, Any]]]  # figures by requests in flight


class Bench:
    """One version's graphs, in a repository below `work` that is written for each setting."""

    def __init__(self, version: Path, work: Path, seconds: float, warm_s: float) -> None:
        self._work, self._times = work, {"seconds": seconds, "warm_s": warm_s}
        self._graphs = [graph_path(version, model) for model in MODELS]
        self._repository = work / "repository"
        self._requests = golden_requests(version)

    def sweep(self, settings: Sequence[Setting], rounds: int) -> Results:
        """Figures of each setting at each of LEVELS, over all rounds."""
        ports = Ports(*free_ports(3))
        target = {"kind": "grpc", "address": f"127.0.0.1:{ports.grpc}", "requests": self._requests}
        samples: dict[tuple[Setting, int], list[Sample]] = {}
        cpu_ms: dict[tuple[Setting, int], list[float]] = {}
        with Worker("benchmarks.load", {"triton": target}) as load:
            for number, setting in product(range(rounds), settings):
                print(f"round {number + 1} of {rounds}: {setting}", flush=True)
                self._change(setting)
                log = self._work / "triton.log"
                server = start_triton(self._repository, self._work, log, ports=ports)
                try:
                    if server.ports != ports:
                        raise KuberecError(f"another process took one of the ports {ports}")
                    for level in LEVELS:
                        before = processor_s(server.process)
                        sample = load.measure(target="triton", in_flight=level, **self._times)
                        spent = processor_s(server.process) - before
                        if sample.errors or not len(sample.latencies_ms):
                            raise KuberecError(f"{setting}: {sample.errors or 'no answer'}")
                        samples.setdefault((setting, level), []).append(sample)
                        # The sample leaves out the warm-up's answers; `spent` has their time.
                        whole = sample.seconds + self._times["warm_s"]
                        answers = sample.answers_per_s * whole
                        cpu_ms.setdefault((setting, level), []).append(spent * 1e3 / answers)
                finally:
                    server.stop()
        return {
            setting: {
                level: summarise(samples[setting, level]) | {"round_cpu_ms": cpu_ms[setting, level]}
                for level in LEVELS
            }
            for setting in settings
        }

    def _change(self, setting: Setting) -> None:
        config = TritonConfig(
            ranker_instances=setting.instances,
            preferred_batch_sizes=list(setting.preferred),
            max_queue_delay_us=setting.delay_us,
        )
        write_repository(self._repository, *self._graphs, config)


def golden_requests(version: Path) -> list[str]:
    """The version's golden requests, serialised, as hexadecimal digits."""
    from serving.client.requests import build_request

    golden = load_version(version, verify=False).golden()
    requests = [build_request(None, [g.history], [g.exclude], None, None) for g in golden]
    return [request.SerializeToString().hex() for request in requests]


def best(results: Results) -> Setting:
    """The least time at 16 and 64 in flight (geometric mean) of those that are not SLOWER alone.

    By each setting's best round: what else the machine does only ever makes one worse. Of settings
    within 5 % of the least, which is less than rounds differ, the first: simplest come first.
    """
    alone = {setting: min(levels[1]["round_p50_ms"]) for setting, levels in results.items()}
    limit = min(alone.values()) * SLOWER
    costs = {s: cost(levels) for s, levels in results.items() if alone[s] <= limit}
    return next(s for s, found in costs.items() if found <= 1.05 * min(costs.values()))


def cost(levels: dict[int, dict[str, Any]]) -> float:
    """Geometric mean of the processor's ms an answer at the levels with several in flight."""
    times = [min(figures["round_cpu_ms"]) for level, figures in levels.items() if level > 1]
    return math.prod(times) ** (1 / len(times))


def as_rows(results: Results) -> list[dict[str, Any]]:
    return [setting._asdict() | {"levels": levels} for setting, levels in results.items()]


def show(title: str, results: Results) -> None:
    table = Table(
        title=f"{title}, by requests in flight: best rounds' p50 in ms, answers/s, CPU ms an answer"
    )
    for name in ("instances", "preferred", "delay, µs", *map(str, LEVELS)):
        table.add_column(name, justify="right")
    for setting, levels in results.items():
        row = [
            f"{min(f['round_p50_ms']):.2f}  {max(f['round_answers_per_s']):,.0f}  "
            f"{min(f['round_cpu_ms']):.2f}"
            for f in levels.values()
        ]
        table.add_row(
            str(setting.instances),
            ", ".join(map(str, setting.preferred)) or "–",
            str(setting.delay_us),
            *row,
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
