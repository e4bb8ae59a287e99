"""Out of memory, said as the settings that would help."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recommender.errors import KuberecError
from recommender.settings import ModelConfig, TrainingConfig

# How torch's CPU allocator says it, in a plain RuntimeError.
_CPU_SAYS = ("can't allocate memory", "not enough memory")


class OutOfMemory(KuberecError):
    """The training does not fit into the memory of its device."""


@contextmanager
def explained_memory(model: ModelConfig, training: TrainingConfig, items: int) -> Iterator[None]:
    """Turn an out-of-memory error of the block into an OutOfMemory that names the knobs."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(_advice("the GPU", model, training, items, error)) from error
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not any(said in str(error) for said in _CPU_SAYS):
            raise
        raise OutOfMemory(_advice("this machine", model, training, items, error)) from error


def _advice(
    where: str, model: ModelConfig, training: TrainingConfig, items: int, error: BaseException
) -> str:
    rows, pieces = training.batch_size, training.accumulate
    lines = [f"training does not fit into the memory of {where}."]
    if rows > 1:
        half = rows // 2
        lines.append(
            f"  training.batch_size: {half} with training.accumulate: {-(-rows * pieces // half)} "
            f"(now {rows} and {pieces}) learns the same, in smaller pieces"
        )
    if training.precision in ("auto", "float32"):
        lines.append(
            f"  training.precision: bfloat16 (now {training.precision}) halves the activations"
        )
    lines.append(
        f"  model.max_length: {max(2, model.max_length // 2)} (now {model.max_length}) halves what "
        "is kept of a history, and quarters attention with a distance or time bias"
    )
    lines.append(
        f"  training.loss: sampled-softmax (now {training.loss}) scores a sample of the {items:,} "
        "items at a step, not all"
    )
    lines.append(
        f"  model.dim, model.layers (now {model.dim} and {model.layers}): a smaller model; items "
        f"alone are {items * model.dim * 4 / 2**20:,.0f} MiB, five times with optimiser and average"
    )
    lines.append(f"  The allocator said: {str(error).strip().splitlines()[0]}")
    return "\n".join(lines)
