"""Training steps on a CUDA device: what attends, what is computed, what is kept.

Not run yet: no such machine was at hand when it was written. The same code runs on a CPU in
tests/unit/test_gpu_benchmark.py.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu import FLASH, attention_ops, loss_of, make_model, measure
from recommender.model import SequentialRecommender
from recommender.sequences import Batch
from recommender.settings import ModelConfig
from recommender.training.losses import softmax_loss
from recommender.training.sampled_softmax import NegativeSampler, sampled_next_item_loss

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
ITEMS = 2000
CONFIG = ModelConfig(
    dim=128, layers=2, heads=2, feedforward=4, max_length=128, dropout=0.0, position="rotary"
)


def windows(batch: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, ITEMS + 1, (batch, CONFIG.max_length + 1), generator=generator)


def loss_and_gradient(
    model: SequentialRecommender, device: str, dtype: torch.dtype | None
) -> tuple[float, torch.Tensor]:
    model = model.to(device)
    model.zero_grad()
    with torch.autocast(device, dtype, enabled=dtype is not None):
        loss = loss_of(model, windows().to(device))
    loss.backward()
    gradient = model.id_embedding.weight.grad
    assert gradient is not None
    return float(loss.detach()), gradient.cpu()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_flash_attention_attends(dtype: torch.dtype) -> None:
    model = make_model(CONFIG, ITEMS, "cuda")

    def step() -> None:
        with torch.autocast("cuda", dtype):
            loss_of(model, windows().cuda()).backward()

    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):  # or an error
        names = attention_ops(step)
    assert FLASH in names
    assert any(name.startswith(FLASH) and name.endswith("backward") for name in names)


def test_half_precision_is_near_the_cpu() -> None:
    model = make_model(CONFIG, ITEMS, "cpu")
    loss, gradient = loss_and_gradient(model, "cpu", None)
    found, slope = loss_and_gradient(model, "cuda", torch.bfloat16)
    assert found == pytest.approx(loss, rel=5e-3)
    likeness = torch.nn.functional.cosine_similarity(gradient.flatten(), slope.flatten(), dim=0)
    assert likeness > 0.99


def test_logits_are_never_kept() -> None:
    positions, items = 65_536, 50_000
    hidden = torch.randn(positions, 64, device="cuda", requires_grad=True)
    table = torch.randn(items, 64, device="cuda", requires_grad=True)
    following = torch.randint(items, (positions,), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    softmax_loss(hidden, table, following).backward()
    all_logits = positions * items * 4
    assert torch.cuda.max_memory_allocated() - before < all_logits / 4


def test_sampled_softmax_is_near_the_cpu() -> None:
    model = make_model(CONFIG, ITEMS, "cpu")
    # Padding has no share of the events; the others have the same.
    model.log_popularity[1:] = -torch.log(torch.tensor(float(ITEMS)))
    losses = []
    for device in ("cpu", "cuda"):
        model = model.to(device)
        sampler = NegativeSampler(model.log_popularity, 256, seed=3)
        window = windows().to(device)
        batch = Batch(window[:, :-1], window[:, 1:], None)
        negative = sampler.draw(0).to(device)
        loss = sampled_next_item_loss(model, batch, negative, sampler.log_expected(negative))
        losses.append(float(loss.detach()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_step_too_large_is_told_and_freed() -> None:
    row = measure(CONFIG, 10**8, "bfloat16", 128, 256, 1)  # 100 million items: 50 GB, with Adam 200
    if torch.cuda.get_device_properties(0).total_memory < 150e9:
        assert "out of memory" in row["error"].lower()
    assert torch.cuda.memory_allocated() < 1e9


def test_the_benchmark_measures_utilisation(tmp_path: Path) -> None:
    sizes = [
        "--dim=256",
        "--layers=4",
        "--heads=4",
        "--items=5000",
        "--tokens=4096",
        "--length=256",
    ]
    command = [sys.executable, "-m", "benchmarks.gpu", *sizes, "--steps=3", f"--results={tmp_path}"]
    subprocess.run([*command, "--dtype=bfloat16"], cwd=ROOT, check=True)
    (row,) = json.loads((tmp_path / "gpu.json").read_text())["figures"]["rows"]
    assert FLASH in row["attention"]
    assert row["mfu"] is None or 0 < row["mfu"] < 1
    assert row["peak_memory_gib"] > 0
