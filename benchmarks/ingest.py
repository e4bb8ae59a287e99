"""`make bench-ingest`: events of a shop to a validated snapshot, beside a script written by hand.

Both drop the same rows of the same files (benchmarks.ingest_events), each in a process of its own,
in turns. Ingestion also keeps every dropped row with its reason and place, and validates. Its time
is compared with the script's, its memory with a limit, and the larger set with the smaller. Then
Great Expectations' own expectations of the snapshot, by pandas and by Ibis, where it fits pandas.
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

from rich.console import Console
from rich.table import Table

from benchmarks.ingest_events import items_of, write_events, write_items
from benchmarks.machine import keep
from benchmarks.scaling import growth

SYSTEMS = ("kuberec", "by hand")
GX = ("gx on ibis", "gx on pandas")
MOST_TIMES_BY_HAND = 2.5
MOST_MIB = 4096


def main() -> None:
    """Make the sets, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, nargs="+", default=[5_000_000, 50_000_000])
    parser.add_argument("--rounds", type=int, default=1, help="of every system on every set")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory", default="2GB", help="DuckDB's, of both")
    parser.add_argument(
        "--pandas-up-to", type=int, default=5_000_000, help="events: pandas holds them all"
    )
    parser.add_argument("--folder", type=Path, help="for the sets and what comes of them")
    arguments = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        for events in arguments.events:
            figures.append(measure(Path(name), events, arguments))
    Console().print(as_table(figures))
    for line in findings(figures):
        print(line)
    packages = ("duckdb", "ibis-framework", "great-expectations", "pyarrow")
    print(f"kept in {keep('ingest', packages, {'sets': figures})}")


def measure(folder: Path, events: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every system on a set of so many events."""
    source = folder / "source"
    source.mkdir()
    started = time.perf_counter()
    write_events(source, events, arguments.seed)
    write_items(source, events, arguments.seed)
    size = sum(path.stat().st_size for path in source.iterdir() if path.is_file())
    print(
        f"{events:,} events, {items_of(events):,} items, {size / 2**20:,.0f} MiB, made in "
        f"{time.perf_counter() - started:.0f} s",
        flush=True,
    )
    rounds: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
    for _ in range(arguments.rounds):
        for system in SYSTEMS:
            target = folder / "target"
            target.mkdir()
            rounds[system].append(run(system, source, target, arguments.memory))
            print(f"  {system}: {rounds[system][-1]}", flush=True)
            if system == "kuberec" and events <= arguments.pandas_up_to:
                for other in GX:
                    found = run(other, target / "snapshot", target, arguments.memory)
                    rounds.setdefault(other, []).append(found)
                    print(f"  {other}: {found['seconds']:.1f} s", flush=True)
            shutil.rmtree(target)
    shutil.rmtree(source)
    kept = {system: rounds[system][0]["kept"]["events"] for system in SYSTEMS}
    # The script's lag() looks at the event before even where that is dropped: a few chains.
    if max(kept.values()) - min(kept.values()) > events / 100_000:
        sys.exit(f"they do not drop the same rows: {kept}")
    verdicts = [rounds[system][0]["verdicts"] for system in GX if system in rounds]
    if any(verdict != verdicts[0] for verdict in verdicts):
        sys.exit(f"pandas and Ibis do not say the same: {verdicts}")
    return {"events": events, "source_mib": size / 2**20, "rounds": rounds}


def run(system: str, source: Path, target: Path, memory: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.ingest_worker", system]
    done = subprocess.run(
        [*command, str(source), str(target), memory], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def seconds(figure: dict[str, Any], system: str) -> float:
    """The median round's."""
    return median(found["seconds"] for found in figure["rounds"][system])


def findings(figures: list[dict[str, Any]]) -> list[str]:
    """Ratios, each with what it should be."""
    lines = []
    for figure in figures:
        ratio = seconds(figure, "kuberec") / seconds(figure, "by hand")
        peak = max(found["peak_mib"] for found in figure["rounds"]["kuberec"])
        lines.append(
            f"{figure['events']:,} events: {ratio:.2f} times the script's time (aim: at most "
            f"{MOST_TIMES_BY_HAND}), peak {peak:,.0f} MiB (aim: under {MOST_MIB:,})"
        )
        if all(system in figure["rounds"] for system in GX):
            by_ibis, by_pandas = (seconds(figure, system) for system in GX)
            peaks = [max(each["peak_mib"] for each in figure["rounds"][system]) for system in GX]
            lines.append(
                f"{figure['events']:,} events, GX's own expectations on Ibis: "
                f"{by_ibis / by_pandas:.2f} times pandas' time, "
                f"{peaks[0] / peaks[1]:.2f} times its memory"
            )
    return lines + growth(figures, lambda figure: seconds(figure, "kuberec"))


def as_table(figures: list[dict[str, Any]]) -> Table:
    table = Table(title="Raw files to a snapshot; Kuberec's with rejects kept and validated")
    for name in ("events", "system", "s", "rows/s", "peak MiB", "events kept"):
        table.add_column(name, justify="left" if name == "system" else "right")
    for figure in figures:
        for system, rounds in figure["rounds"].items():
            time_s = seconds(figure, system)
            peak = max(found["peak_mib"] for found in rounds)
            cells = (figure["events"], system, f"{time_s:.1f}", figure["events"] / time_s, peak)
            shown = [cell if isinstance(cell, str) else f"{cell:,.0f}" for cell in cells]
            kept = rounds[0].get("kept")
            table.add_row(*shown, f"{kept['events']:,}" if kept else "")
    return table


if __name__ == "__main__":
    main()
