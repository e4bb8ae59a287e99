"""A training step over growing catalogues: the full softmax beside sampled softmax with logQ.

    python -m benchmarks.training_scaling [--items 10000 100000 1000000 10000000]

Made-up items with Zipf's popularity, ids alone; each size and loss in a process of its own, which
takes whole training steps as recommender.training does: loss, backward, clipping, optimiser and
moving average. A size is run while its memory, drawn on from the two before, fits `--memory-gib`
and what the machine has free; beyond that the table has what it would take, and says so.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import RESULTS, keep

LOSSES = ("softmax", "sampled-softmax")
LENGTH = 50
Row = dict[str, Any]


def measure(items: int, loss: str, batch: int, dim: int, steps: int) -> Row:
    """Seconds a step (the fastest: others use the machine too) and peak memory, in this process."""
    import torch

    from benchmarks.training_worker import peak_mib
    from recommender.model import SequentialRecommender
    from recommender.sequences import Batch
    from recommender.settings import ModelConfig, TrainingConfig
    from recommender.training.averaging import averaged, update_average
    from recommender.training.module import Objective
    from recommender.training.optimizer import make_optimizer
    from recommender.training.row_optimizer import clip_gradients

    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = peak_mib()
    config = ModelConfig(dim=dim, layers=2, heads=2, feedforward=4, max_length=LENGTH, dropout=0.2)
    training = TrainingConfig(loss=loss, batch_size=batch, threads=1)
    share_N = 1.0 / torch.arange(1, items + 1, dtype=torch.float64)
    share_N /= share_N.sum()
    log_popularity = torch.cat([torch.zeros(1), share_N.log().float()])
    model = SequentialRecommender(config, torch.zeros(items + 1, 0), log_popularity).train()
    objective = Objective(model, training)
    average = averaged(model)
    optimizer = make_optimizer(model, training)
    upto_N = share_N.cumsum(0)
    taken = []
    for step in range(steps + 1):
        place = torch.rand(batch, LENGTH + 1, dtype=torch.float64) * upto_N[-1]
        window_BL = torch.searchsorted(upto_N, place).clamp(max=items - 1) + 1
        began, processor_began = time.perf_counter(), time.process_time()
        rows = Batch(window_BL[:, :-1], window_BL[:, 1:], None)
        objective(rows, float(batch * LENGTH), step).backward()
        clip_gradients([w for w in model.parameters() if w.requires_grad], training.gradient_clip)
        optimizer.step()
        update_average(average, model, step, training.average_decay)
        optimizer.zero_grad(set_to_none=True)
        taken.append((time.perf_counter() - began, time.process_time() - processor_began))
    counted = taken[1:]
    return {
        "items": items,
        "loss": loss,
        "seconds_a_step": min(wall for wall, _ in counted),
        "processor_s_a_step": min(processor for _, processor in counted),
        "peak_mib": peak_mib(),
        "before_mib": before,
    }


def expected(rows: list[Row], items: int, loss: str = "softmax") -> Row | None:
    """What `loss` takes at `items`, drawn on from its two largest sizes in `rows`.

    Memory and time of a step are a constant and a part for each item.
    """
    known = sorted((row for row in rows if row["loss"] == loss), key=lambda row: row["items"])
    if len(known) < 2:
        return None
    (low, high), found = known[-2:], {"items": items, "loss": loss, "expected": True}
    for key in ("seconds_a_step", "processor_s_a_step", "peak_mib"):
        slope = (high[key] - low[key]) / (high["items"] - low["items"])
        found[key] = high[key] + slope * (items - high["items"])
    return found


def free_mib() -> float:
    """What the machine has left, by the kernel's estimate."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))


def largest(rows: list[Row], memory_mib: float) -> int | None:
    """The most items of a full softmax step in `memory_mib`, drawn on; None: not known."""
    one, two = expected(rows, 0), expected(rows, 1_000_000)
    if one is None or two is None:
        return None
    return math.floor((memory_mib - one["peak_mib"]) / (two["peak_mib"] - one["peak_mib"]) * 1e6)


def as_table(rows: list[Row]) -> Table:
    table = Table(title="A training step by size of the catalogue")
    for name in ("items", "loss", "s a step", "processor s a step", "peak MiB", ""):
        table.add_column(name, justify="left" if name in ("loss", "") else "right")
    for row in rows:
        note = "drawn on from smaller ones" if row.get("expected") else ""
        numbers = (f"{row[key]:.2f}" for key in ("seconds_a_step", "processor_s_a_step"))
        table.add_row(f"{row['items']:,}", row["loss"], *numbers, f"{row['peak_mib']:,.0f}", note)
    return table


def main() -> None:
    """Each size with both losses, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--batch-size", type=int, default=64, help=f"windows of {LENGTH} positions")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3, help="after one that does not count")
    parser.add_argument("--memory-gib", type=float, default=24.0, help="that a step may take")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    parser.add_argument("--one", nargs=2, metavar=("ITEMS", "LOSS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = (arguments.batch_size, arguments.dim, arguments.steps)
    if arguments.one:
        print(json.dumps(measure(int(arguments.one[0]), arguments.one[1], *size)))
        return
    rows: list[Row] = []
    load_before = os.getloadavg()
    for items in sorted(arguments.items):
        for loss in LOSSES:
            would = expected(rows, items, loss)
            allowed = min(arguments.memory_gib * 1024, free_mib())
            if would and would["peak_mib"] > allowed:
                rows.append(would)
            else:
                flags = [
                    f"--{name}={value}"
                    for name, value in zip(("batch-size", "dim", "steps"), size, strict=True)
                ]
                command = [sys.executable, "-m", "benchmarks.training_scaling", *flags]
                done = subprocess.run(
                    [*command, "--one", str(items), loss], stdout=subprocess.PIPE, check=True
                )
                rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    Console().print(as_table(rows))
    most = largest(rows, arguments.memory_gib * 1024)
    if most is not None:
        print(f"the full softmax fits {arguments.memory_gib:g} GiB up to {most:,} items")
    figures = {
        "settings": dict(zip(("batch_size", "dim", "steps"), size, strict=True))
        | {"length": LENGTH, "threads": 1, "memory_gib": arguments.memory_gib},
        "rows": rows,
        "full_softmax_fits_items": most,
        "load": {"before": load_before, "after": os.getloadavg()},
    }
    print(f"kept in {keep('training_scaling', ('torch', 'numpy'), figures, arguments.results)}")


if __name__ == "__main__":
    main()
