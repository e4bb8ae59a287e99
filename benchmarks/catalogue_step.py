"""Time and memory of one training step over the size of the catalogue, by loss.

    python -m benchmarks.catalogue_step                     # a line a size and loss
    python -m benchmarks.catalogue_step 1000000 softmax     # one of them, as JSON

`step_cost` is what a table is made from; each line is a process of its own, so that its peak is
its own.
"""

import json
import resource
import subprocess
import sys
import time
from typing import Any

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
LARGEST_FULL = 1_000_000  # beyond it the full softmax needs tens of gigabytes, and minutes a step


def step_cost(
    items: int,
    loss: str,
    negatives: int = 8192,
    dim: int = 64,
    batch_size: int = 64,
    length: int = 50,
    steps: int = 3,
) -> dict[str, Any]:
    """What a step of a Transformer of two blocks costs: forward, backward, optimiser, average.

    Args:
        items: of the catalogue, known by id alone, with Zipf's popularity.
        loss: of TrainingConfig.
        steps: timed, after one that is not.

    Returns:
        {"items", "loss", "negatives", "positions", "seconds" (the median step), "peak_bytes": of
        the device's memory, on a CPU of this process since its start, "table_bytes", "device"}.
    """
    import torch

    from recommender.model import SequentialRecommender
    from recommender.sequences import Batch
    from recommender.settings import ModelConfig, TrainingConfig
    from recommender.training.averaging import averaged, update_average
    from recommender.training.module import Objective
    from recommender.training.optimizer import make_optimizer
    from recommender.training.row_optimizer import clip_gradients

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    config = TrainingConfig(loss=loss, negatives=negatives)  # type: ignore[arg-type]
    share_N = 1 / torch.arange(1, items + 1, dtype=torch.float64)
    popularity = torch.cat([torch.zeros(1), (share_N / share_N.sum()).log().float()])
    model = SequentialRecommender(
        ModelConfig(dim=dim, layers=2, heads=2, max_length=length),
        torch.zeros(items + 1, 0),
        popularity,
    ).to(device)
    objective = Objective(model, config)
    average = averaged(model)
    optimizer = make_optimizer(model, config)
    seconds = []
    for step in range(steps + 1):
        windows = torch.randint(1, items + 1, (batch_size, length + 1), device=device)
        started = _now(device)
        batch = Batch(windows[:, :-1], windows[:, 1:], None)
        objective(batch, batch_size * length, step).backward()
        clip_gradients(list(model.parameters()), config.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_average(average, model, step + 1, config.average_decay)
        seconds.append(_now(device) - started)
    on_gpu = device.type == "cuda"
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "items": items,
        "loss": loss,
        "negatives": negatives if loss == "sampled-softmax" else None,
        "positions": batch_size * length,
        "seconds": sorted(seconds[1:])[steps // 2],
        "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else kibibytes * 1024,
        "table_bytes": items * dim * 4,
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()}",
    }


def _now(device: Any) -> float:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def measured(items: int, loss: str) -> dict[str, Any]:
    """`step_cost` in a process of its own.

    Raises:
        subprocess.CalledProcessError: it died, as when memory ends.
    """
    command = [sys.executable, "-m", "benchmarks.catalogue_step", str(items), loss]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cost: dict[str, Any] = json.loads(found.splitlines()[-1])
    return cost


def main() -> None:
    if sys.argv[1:]:
        print(json.dumps(step_cost(int(sys.argv[1]), sys.argv[2])))
        return
    for items in SIZES:
        for loss in ("softmax", "sampled-softmax"):
            if loss == "softmax" and items > LARGEST_FULL:
                continue
            cost = measured(items, loss)
            print(
                f"{items:>11,} {loss:<16} {cost['seconds']:8.3f} s "
                f"{cost['peak_bytes'] / 2**20:8,.0f} MiB (table {cost['table_bytes'] / 2**20:,.0f})"
                f"  {cost['device']} threads",
                flush=True,
            )


if __name__ == "__main__":
    main()
