"""`make bench-features`, its first: training windows of 20 million events, beside SQL by hand.

Both build the same windows and offline tables of the same events (benchmarks.feature_events), each
in a process of its own, in turns, with the same memory and threads; every row is compared.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from benchmarks.feature_events import write_snapshot
from benchmarks.machine import RESULTS, keep
from benchmarks.scaling import growth
from feature_repo.config import FeatureConfig
from recommender.engines.settings import EngineConfig

SYSTEMS = ("kuberec", "by hand")
MOST_TIMES_BY_HAND = 2.0
OUTPUTS = ("windows.parquet", "offline/user_history.parquet", "offline/events.parquet")


def main() -> None:
    """Make the events, measure, compare, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, nargs="+", default=[2_000_000, 20_000_000])
    parser.add_argument("--rounds", type=int, default=1, help="of both on every set")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory", default="4GB", help="DuckDB's, of both")
    parser.add_argument("--threads", type=int, help="DuckDB's, of both; none: one a core")
    parser.add_argument("--history-length", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="for the events and what comes of them")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    arguments = parser.parse_args()
    engine = EngineConfig(memory=arguments.memory, threads=arguments.threads)
    config = FeatureConfig(history_length=arguments.history_length, engine=engine)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        figures = [
            measure(Path(name), events, arguments.seed, arguments.rounds, config)
            for events in arguments.events
        ]
    Console().print(as_table(figures))
    for line in findings(figures):
        print(line)
    kept = {"config": config.model_dump(), "sets": figures}
    packages = ("duckdb", "ibis-framework", "pyarrow")
    print(f"kept in {keep('feature_windows', packages, kept, arguments.results)}")


def measure(
    folder: Path, events: int, seed: int, rounds: int, config: FeatureConfig
) -> dict[str, Any]:
    """Both systems on a set of so many events."""
    snapshot = folder / "snapshot"
    started = time.perf_counter()
    write_snapshot(snapshot, events, seed)
    print(f"{events:,} events, made in {time.perf_counter() - started:.0f} s", flush=True)
    found: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
    contents = {}
    for _ in range(rounds):
        for system in SYSTEMS:
            out = folder / "out"
            found[system].append(run(system, snapshot, out, config))
            print(f"  {system}: {found[system][-1]}", flush=True)
            contents[system] = content(out)
            shutil.rmtree(out)
    shutil.rmtree(snapshot)
    if contents["kuberec"] != contents["by hand"]:
        sys.exit(f"they do not build the same rows: {contents}")
    return {"events": events, "rows": contents["kuberec"], "rounds": found}


def run(system: str, snapshot: Path, out: Path, config: FeatureConfig) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.feature_windows_worker", system]
    arguments = [str(snapshot), str(out), config.model_dump_json()]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def content(out: Path) -> dict[str, list[int]]:
    """Of each table: rows, and a sum of their hashes."""
    with duckdb.connect() as connection:
        found = {}
        for name in OUTPUTS:
            columns = connection.execute(f"DESCRIBE FROM '{out / name}'").fetchall()
            # Sorted by name, and numbers of one width.
            values = ", ".join(
                f"{column}::BIGINT" if kind in ("INTEGER", "BIGINT") else column
                for column, kind, *_ in sorted(columns)
            )
            rows = connection.execute(
                f"SELECT count(*), sum(hash({values})) % 1000000007 FROM '{out / name}'"
            ).fetchone()
            found[name] = [int(value) for value in rows or ()]
    return found


def of(figure: dict[str, Any], system: str, what: str = "seconds") -> float:
    """The median round's."""
    return median(found[what] for found in figure["rounds"][system])


def findings(figures: list[dict[str, Any]]) -> list[str]:
    """Ratios, each with what it should be."""
    lines = []
    for figure in figures:
        ratio, of_processor = (
            of(figure, "kuberec", what) / of(figure, "by hand", what)
            for what in ("seconds", "processor_s")
        )
        lines.append(
            f"{figure['events']:,} events: {ratio:.2f} times the time of SQL by hand (aim: at most "
            f"{MOST_TIMES_BY_HAND:g}), {of_processor:.2f} times its processor time, the same rows"
        )
    return lines + growth(figures, lambda figure: of(figure, "kuberec"))


def as_table(figures: list[dict[str, Any]]) -> Table:
    table = Table(title="Events to training windows and offline histories")
    for name in ("events", "system", "s", "processor s", "events/s", "peak MiB"):
        table.add_column(name, justify="left" if name == "system" else "right")
    for figure in figures:
        for system, rounds in figure["rounds"].items():
            time_s = of(figure, system)
            numbers = (
                f"{time_s:.1f}",
                f"{of(figure, system, 'processor_s'):.1f}",
                f"{figure['events'] / time_s:,.0f}",
                f"{max(found['peak_mib'] for found in rounds):,.0f}",
            )
            table.add_row(f"{figure['events']:,}", system, *numbers)
    return table


if __name__ == "__main__":
    main()
