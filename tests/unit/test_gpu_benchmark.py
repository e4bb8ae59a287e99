"""MFU's arithmetic against torch's own count, and the GPU benchmark's code on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import FLASH, as_lines, loss_of, make_model
from benchmarks.model_flops import PEAKS, flops_per_token, peak_flops, utilisation
from recommender.settings import ModelConfig

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("layers", "feedforward", "length"), [(1, 1, 7), (2, 4, 16)], ids=["one", "two"]
)
def test_flops_are_those_that_torch_counts(layers: int, feedforward: int, length: int) -> None:
    config = ModelConfig(
        dim=16,
        layers=layers,
        heads=2,
        feedforward=feedforward,
        max_length=length,
        dropout=0.0,
        position="rotary",
    )
    items, batch = 31, 3
    model = make_model(config, items, "cpu")
    window = torch.randint(1, items + 1, (batch, length + 1))
    # As matrix products, which is what is counted of attention.
    with sdpa_kernel([SDPBackend.MATH]), FlopCounterMode(display=False) as counter:
        loss_of(model, window).backward()
    counted = counter.get_total_flops()
    assert counted == batch * length * flops_per_token(config, items, length)


def test_devices_are_known_by_the_name_that_cuda_gives() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3", "bfloat16") == 989.5e12
    assert peak_flops("NVIDIA H100 PCIe", "bfloat16") == 756.5e12
    assert peak_flops("NVIDIA H200", "tf32") == 494.5e12
    assert peak_flops("NVIDIA A100-SXM4-80GB", "float16") == 312e12
    assert peak_flops("NVIDIA L40S", "bfloat16") == 362.05e12
    assert peak_flops("NVIDIA L4", "bfloat16") == 121e12
    assert peak_flops("NVIDIA B200", "bfloat16") == 2250e12
    assert peak_flops("NVIDIA GB200", "bfloat16") is None  # clocked higher than B200
    assert peak_flops("NVIDIA H200 NVL", "float16") == 835.5e12
    assert peak_flops("NVIDIA A10G", "bfloat16") is None
    assert peak_flops("NVIDIA RTX A1000", "bfloat16") is None
    assert peak_flops("Tesla T4", "bfloat16") is None
    assert peak_flops("NVIDIA GeForce RTX 4090", "bfloat16") is None


def test_no_name_hides_a_longer_one() -> None:
    names = list(PEAKS)
    for place, name in enumerate(names):
        assert not [later for later in names[place + 1 :] if name in later]


def test_utilisation_is_a_share_of_the_peak() -> None:
    assert utilisation(1e6, 400, 1e9) == pytest.approx(0.4)
    assert utilisation(1e6, 400, None) is None


def test_without_a_gpu_it_says_so_and_fails(tmp_path: Path) -> None:
    # The variable hides a device from a machine that has one.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", f"--results={tmp_path}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "no CUDA device" in done.stderr
    assert not list(tmp_path.iterdir())


def test_its_code_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import gpu

    sizes = ["--dim=16", "--layers=1", "--heads=2", "--items=50", "--tokens=64", "--length", "16"]
    arguments = ["gpu", "--device=cpu", *sizes, "64", "--steps=1", f"--results={tmp_path}"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--dtype", "bfloat16", "tf32"])
    gpu.main()
    kept = json.loads((tmp_path / "gpu.json").read_text())
    rows = kept["figures"]["rows"]
    assert [(row["dtype"], row["length"], row["batch"]) for row in rows] == [
        ("bfloat16", 16, 4),
        ("bfloat16", 64, 1),
        ("tf32", 16, 4),
        ("tf32", 64, 1),
    ]
    for row in rows:
        assert any(name.startswith(FLASH) for name in row["attention"])
        assert row["mfu"] is None
        assert row["tokens_per_s"] == pytest.approx(64 / row["step_ms"] * 1000)
    assert kept["machine"]["packages"]["torch"] == torch.__version__.partition("+")[0]


def test_lines_say_what_is_not_known() -> None:
    row = {"dtype": "tf32", "length": 16, "batch": 4, "attention": ["aten::_scaled_dot_product_x"]}
    row |= {"tokens_per_s": 12345.0, "tflops": 1.0, "mfu": None}
    (line,) = as_lines([row])
    assert "12,345 tokens/s" in line
    assert "MFU unknown" in line
    assert "not flash" in line
    assert "memory" in as_lines([row | {"error": "out of memory"}])[0]
