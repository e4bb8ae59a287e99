"""`make bench-gpu`: how much of a GPU training uses: tokens/s, MFU, memory, by dtype and length.

    python -m benchmarks.gpu [--dtype bfloat16 float16 tf32] [--length 256 1024 4096] [--compile]

The largest backbone that needs nothing but torch: a Transformer with rotary positions, whose
attention is the flash kernel's, full softmax over the whole catalogue in chunks, fused AdamW, on
random windows without padding. It needs only recommender/ and torch: no Lightning, no data. MFU:
benchmarks.model_flops. Without a CUDA device it ends with status 1; `--device cpu` tries the code.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import RESULTS, keep
from benchmarks.model_flops import block_weights, flops_per_token, peak_flops, utilisation
from recommender.model import SequentialRecommender
from recommender.settings import ModelConfig, TrainingConfig
from recommender.training.losses import softmax_loss
from recommender.training.optimizer import make_optimizer

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "tf32": torch.float32}
ATTENTION = "aten::_scaled_dot_product_"
FLASH = ATTENTION + "flash_attention"  # on a CPU it goes on with _for_cpu


def make_model(config: ModelConfig, items: int, device: str) -> SequentialRecommender:
    """Untrained, of ids alone."""
    torch.manual_seed(0)
    text = torch.zeros(items + 1, 0)
    return SequentialRecommender(config, text, torch.zeros(items + 1)).to(device).train()


def loss_of(model: SequentialRecommender, window_BL: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of every next item of windows without padding, int64 [B, L + 1]."""
    table_ND = model.item_table()
    hidden_BLD = model.encode(window_BL[:, :-1], table_ND, right_padded=True)
    following_M = window_BL[:, 1:].flatten() - 1
    return softmax_loss(hidden_BLD.flatten(0, 1), table_ND[1:], following_M) / len(following_M)


def attention_ops(step: Callable[[], Any]) -> list[str]:
    """Which kernels of attention a step calls, by torch's names, as its profiler sees them."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    names = {event.key for event in seen.key_averages()}
    return sorted(name for name in names if name.startswith(ATTENTION))


def attention_backend(device: str, dtype: str) -> contextlib.AbstractContextManager[Any]:
    """Flash attention or an error, where there is one for the dtype; float32 has none on CUDA."""
    if device == "cuda" and dtype == "tf32":
        return contextlib.nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION])


def measure(
    config: ModelConfig,
    items: int,
    dtype: str,
    length: int,
    tokens: int,
    steps: int,
    device: str = "cuda",
    compiled: bool = False,
) -> dict[str, Any]:
    """One row: dtype, length, batch, and either "error" or what a step takes and uses."""
    row: dict[str, Any] = {"dtype": dtype, "length": length, "batch": max(tokens // length, 1)}
    try:
        return row | _measured(
            config, items, dtype, (row["batch"], length), steps, device, compiled
        )
    except torch.OutOfMemoryError as error:
        return row | {"error": str(error).splitlines()[0]}
    finally:
        if device == "cuda":
            torch.cuda.empty_cache()


def _measured(
    config: ModelConfig,
    items: int,
    dtype: str,
    shape: tuple[int, int],
    steps: int,
    device: str,
    compiled: bool,
) -> dict[str, Any]:
    batch, length = shape
    torch.set_float32_matmul_precision("high")  # TensorFloat-32
    model = make_model(config, items, device)
    optimizer = make_optimizer(model, TrainingConfig(learning_rate=1e-4))
    if compiled:
        model.backbone.compile()
    window_BL = torch.randint(1, items + 1, (batch, length + 1), device=device)
    low = dtype != "tf32"
    # As recommender.training does: what is small in float16 would be lost on its way back.
    scaler = torch.amp.GradScaler(device, enabled=dtype == "float16" and device == "cuda")
    losses = []

    def step() -> None:
        with torch.autocast(device, DTYPES[dtype] if low else None, enabled=low):
            loss = loss_of(model, window_BL)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    with attention_backend(device, dtype):
        for _ in range(3):
            step()
        found = {"attention": attention_ops(step)}
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        wait()
        started = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
    step_s = (time.perf_counter() - started) / steps
    rate = batch * length / step_s
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    per_token = flops_per_token(config, items, length)
    if device == "cuda":
        found["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        found["reserved_gib"] = torch.cuda.max_memory_reserved() / 2**30
    return found | {
        "step_ms": step_s * 1000,
        "tokens_per_s": rate,
        "tflops": rate * per_token / 1e12,
        "mfu": utilisation(rate, per_token, peak_flops(name, dtype)),
        "loss": [float(losses[0]), float(losses[-1])],
    }


def as_lines(rows: list[dict[str, Any]]) -> list[str]:
    """A line a row, for people."""
    lines = []
    for row in rows:
        line = f"{row['dtype']:>8}, length {row['length']:>5}, batch {row['batch']:>4}: "
        if "error" in row:
            lines.append(line + row["error"])
            continue
        mfu = "unknown (no peak for this device)" if row["mfu"] is None else f"{row['mfu']:.1%}"
        memory = f", {row['peak_memory_gib']:.1f} GiB" if "peak_memory_gib" in row else ""
        used = "flash" if any(op.startswith(FLASH) for op in row["attention"]) else "not flash"
        lines.append(
            f"{line}{row['tokens_per_s']:,.0f} tokens/s, {row['tflops']:.1f} TFLOP/s, MFU {mfu}"
            f"{memory}, attention: {used}"
        )
    return lines


def main() -> None:
    """Measure each dtype and length, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dtype", nargs="+", choices=sorted(DTYPES), default=sorted(DTYPES))
    parser.add_argument("--length", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--tokens", type=int, default=32_768, help="a step")
    parser.add_argument("--steps", type=int, default=20, help="that are timed, after 4")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--compile", action="store_true", help="the backbone, by torch.compile")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            f"bench-gpu: no CUDA device: torch {torch.__version__} sees none. It measures a GPU; "
            "`python -m benchmarks.gpu --device cpu` with small sizes tries its code alone."
        )
    cuda = arguments.device == "cuda"
    config = ModelConfig(
        dim=arguments.dim,
        layers=arguments.layers,
        heads=arguments.heads,
        feedforward=4,
        max_length=max(arguments.length),
        dropout=arguments.dropout,
        position="rotary",
    )
    rows = []
    for dtype in arguments.dtype:
        for length in arguments.length:
            size = (arguments.items, dtype, length, arguments.tokens, arguments.steps)
            rows.append(measure(config, *size, arguments.device, arguments.compile))
            print(as_lines(rows[-1:])[0], flush=True)
    figures = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cuda": torch.version.cuda,
        "model": config.model_dump(),
        "items": arguments.items,
        "block_weights": block_weights(config),
        "compiled": arguments.compile,
        "rows": rows,
    }
    print(f"kept in {keep('gpu', ('torch', 'numpy'), figures, arguments.results)}")


if __name__ == "__main__":
    main()
