"""The step `sparsify`."""

from typing import Literal

from pydantic import Field

from recommender.config import Section
from recommender.settings.compression.recovery import RecoveryConfig

# Multiples of out and in features that NVIDIA's sparse kernels take of a linear layer in FP16, of
# torch's two backends the stricter one (CUTLASS; torch.sparse.semi_structured of torch 2.15).
ROWS, COLUMNS = 32, 64


class SparsifyStep(Section):
    """Two of four weights become 0, for sparse tensor cores (recommender.compression.sparsify).

    The graph keeps its bytes and a CPU its latency: zeros are stored and multiplied there. What
    gains is an engine for an Ampere or later GPU that is built to look for them.
    """

    step: Literal["sparsify"] = "sparsify"
    importance: Literal["magnitude", "wanda"] = Field(
        default="magnitude",
        description="which two stay: the largest weights, or the largest products of weight and "
        "the norm of what it reads (Wanda, Sun et al. 2023, arXiv:2306.11695)",
    )
    windows: int = Field(
        default=256, gt=0, description="training histories that wanda's norms come from"
    )
    seed: int = Field(default=42, ge=0, description="of the choice of those histories")
    recovery: RecoveryConfig = Field(
        default=RecoveryConfig(), description="training with the zeros kept; epochs: 0 for none"
    )
