"""What a training step of the Transformer costs, and what a device can do: for MFU.

Model FLOPs utilisation is that of PaLM (Chowdhery et al. 2022, arXiv:2204.02311, appendix B):
tokens/s over what the device's peak would allow, where a token costs 6 N + 12 L H Q T operations:
N the weights that are multiplied, L layers, H heads of width Q, T the length. What is computed
again to save memory does not count; that causal attention needs but half of its part is not used.

N here: the blocks' matrices and the item table, once, as the output layer. Looking an item up
costs nothing.
"""

import re

from recommender.settings import ModelConfig

# Dense peaks in TFLOP/s by dtype. NVIDIA's data sheets, where they give figures with sparsity, say
# "1/2 lower without": those are halved here. bf16 and fp16 multiply into float32; tf32 is float32
# on tensor cores. Read are the sheets' tables as others print them, named at each card: NVIDIA's
# own pages could not be reached.
# The first whose words are in torch.cuda.get_device_name() counts: longer ones come first.
PEAKS: dict[str, dict[str, float]] = {
    # HGX B200 data sheet, per GPU: BF16 and FP16 4.5 PFLOPS, TF32 2.2, both with sparsity
    # (zdszero.github.io/Computer/Artificial_Intelligence/Hardware.html; dense the same in
    # glennklockwood.com/garden/processors/B200).
    "B200": {"bfloat16": 2250.0, "float16": 2250.0, "tf32": 1100.0},
    # H200 has the compute of H100 (itkb.uw.cz: 989 dense). Of NVL no copy of the sheet was found;
    # a public table for MFU has 835 dense for H100 NVL, and tf32 is half of it on these cards.
    "H200 NVL": {"bfloat16": 835.5, "float16": 835.5, "tf32": 417.5},
    "H200": {"bfloat16": 989.5, "float16": 989.5, "tf32": 494.5},
    "H100 NVL": {"bfloat16": 835.5, "float16": 835.5, "tf32": 417.5},
    # H100 data sheet: SXM 1,979 and TF32 989, PCIe 1,513 and 756, with sparsity
    # (archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html).
    "H100 PCIe": {"bfloat16": 756.5, "float16": 756.5, "tf32": 378.0},
    "H100": {"bfloat16": 989.5, "float16": 989.5, "tf32": 494.5},
    # A100 data sheet 1758950, all form factors: 312 and 156 dense
    # (glennklockwood.com/garden/processors/A100).
    "A100": {"bfloat16": 312.0, "float16": 312.0, "tf32": 156.0},
    # A10 data sheet: 125 dense (a table of MFU by kimbochen); tf32 is half of it, as on every card
    # of that generation (A40: 149.7 and 74.8). No copy of the sheet was found.
    "A10": {"bfloat16": 125.0, "float16": 125.0, "tf32": 62.5},
    # L40S data sheet: 362.05 and 183 dense (mullet.se, product 355414).
    "L40S": {"bfloat16": 362.05, "float16": 362.05, "tf32": 183.0},
    # L4 data sheet: TF32 120 with sparsity (store.sourcecode.com). 121, from 242 with sparsity, was
    # not found in a copy of the sheet; it fits twice the TF32 figure.
    "L4": {"bfloat16": 121.0, "float16": 121.0, "tf32": 60.0},
    # V100 data sheet, tensor cores for float16 alone: PCIe 112 (io-tech.fi), SXM2 125.
    "V100-PCIE": {"float16": 112.0},
    "V100-SXM2": {"float16": 125.0},
    # T4 data sheet: 65, of float16 alone (geektopia.es).
    "Tesla T4": {"float16": 65.0},
}


def peak_flops(device: str, dtype: str) -> float | None:
    """Operations a second of `device` (its CUDA name) with `dtype`; None: not in the table."""
    for name, peaks in PEAKS.items():
        if re.search(rf"\b{name}\b", device):
            found = peaks.get(dtype)
            return None if found is None else found * 1e12
    return None


def block_weights(config: ModelConfig) -> int:
    """Numbers in the matrices of all blocks: attention's four, and the MLP's two."""
    return config.layers * (4 + 2 * config.feedforward) * config.dim**2


def flops_per_token(config: ModelConfig, items: int, length: int) -> int:
    """Forward and backward, of a position of a window of `length` scored among all `items`."""
    weights = block_weights(config) + items * config.dim
    return 6 * weights + 12 * config.layers * config.dim * length


def utilisation(tokens_per_s: float, per_token: int, peak: float | None) -> float | None:
    """MFU, 0 to 1; None where the peak is not known."""
    return None if peak is None else tokens_per_s * per_token / peak
