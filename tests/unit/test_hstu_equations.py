"""HSTU against the equations of its paper, written out in numpy, one number at a time."""

import numpy as np
import pytest
import torch
from recommender_data import TINY

from recommender.backbones.hstu import Hstu

LENGTH, BATCH = 6, 2
TIMES = np.array([[0, 0, 50, 60, 90_000, 90_001], [5, 5, 400, 10**6, 10**8, 10**9]])


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    spread = np.sqrt(x.var() + 1e-5)
    return (x - x.mean()) / spread * weight + bias


def equations(x_LD: np.ndarray, known_L: np.ndarray, times_L, weights, heads: int, longest: int):
    """arXiv:2402.17152, equations 1 to 3, of one history."""

    def w(name: str) -> np.ndarray:
        return weights[name].astype(np.float64)

    dim = x_LD.shape[1]
    size = dim // heads
    parts = [silu(w("first.weight") @ norm(x, w("norm.weight"), w("norm.bias"))) for x in x_LD]
    u, v, q, k = (np.array([part[i * dim : (i + 1) * dim] for part in parts]) for i in range(4))
    out = np.zeros_like(x_LD)
    for i in range(len(x_LD)):
        attended = np.zeros(dim)
        for h in range(heads):
            own = slice(h * size, (h + 1) * size)
            for j in range(i + 1):
                if not known_L[j] and j != i:
                    continue
                score = q[i, own] @ k[j, own] + w("distance_bias")[i - j, h]
                if times_L is not None:
                    gap = abs(int(times_L[i]) - int(times_L[j]))
                    both = times_L[i] > 0 and times_L[j] > 0
                    bucket = min(int(np.log(1 + gap) / 0.301), 63) if both else 64
                    score += w("time_bias.weight")[bucket, h]
                attended[own] += silu(score) / longest * v[j, own]
        mixed = norm(attended, w("attended_norm.weight"), w("attended_norm.bias")) * u[i]
        out[i] = x_LD[i] + w("second.weight") @ mixed + w("second.bias")
    return out


@pytest.mark.parametrize("time", ["none", "gaps"])
def test_blocks_are_the_papers_equations(time) -> None:
    torch.manual_seed(0)
    config = TINY.model_copy(update={"backbone": "hstu", "time": time})
    model = Hstu(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    x_BLD = torch.randn(BATCH, LENGTH, config.dim)
    known_BL = torch.from_numpy(TIMES > 0)
    times_BL = torch.from_numpy(TIMES) if time == "gaps" else None
    found = model(x_BLD, known_BL, times_BL).detach().numpy()
    for row in range(BATCH):
        expected = x_BLD[row].double().numpy()
        for block in model.blocks:
            weights = {name: value.numpy() for name, value in block.state_dict().items()}
            expected = equations(
                expected,
                TIMES[row] > 0,
                TIMES[row] if time == "gaps" else None,
                weights,
                config.heads,
                config.max_length,
            )
        np.testing.assert_allclose(found[row], expected, atol=2e-4, rtol=1e-3)
