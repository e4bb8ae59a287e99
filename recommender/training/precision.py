"""Which number format the matrix products of a training step are computed in."""

from typing import Any

import torch

from recommender.errors import KuberecError

# Lightning's names. All of them keep weights, optimiser and sums in float32 (Micikevicius et al.
# 2018, arXiv:1710.03740).
LIGHTNING: dict[torch.dtype, Any] = {
    torch.float32: "32-true",
    torch.bfloat16: "bf16-mixed",
    torch.float16: "16-mixed",
}


def resolve(precision: str, device: str) -> torch.dtype:
    """The format that `training.precision` means on a device ("cpu", "cuda", ...).

    Raises:
        KuberecError: the device cannot train in it.
    """
    if precision == "float32":
        return torch.float32
    if precision == "float16":
        if device != "cuda":
            raise KuberecError(
                f"training.precision: float16 needs a CUDA GPU, since its small gradients vanish "
                f"without a scaler; this machine trains on '{device}': use auto, bfloat16 or "
                "float32"
            )
        return torch.float16
    if precision == "bfloat16":
        return torch.bfloat16
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32


def multiplies_bfloat16(device: str) -> bool:
    """Whether the device has instructions for it; elsewhere it is emulated, slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
