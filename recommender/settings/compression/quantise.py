"""The step `quantise`."""

from typing import Literal

from pydantic import Field

from recommender.config import Section
from recommender.settings.compression.recovery import RecoveryConfig

# Two batches of the quantiser's 32. Ranges are the least and greatest values seen, and of fewer
# requests they depend on which were drawn.
LEAST_REQUESTS = 64


class QuantiseStep(Section):
    """The graph's numbers in 8 or 16 bits (recommender.compression.quantize, .half)."""

    step: Literal["quantise"] = "quantise"
    precision: Literal["int8", "float16", "bfloat16"] = Field(
        default="int8",
        description="int8: weights and activations, by ONNX Runtime's static quantiser. float16: "
        "half the bytes, and the graph that GPUs serve; a CPU computes it in float32, no faster. "
        "bfloat16: refused, "
        "ONNX Runtime's CPU has no product in it",
    )
    calibration_requests: int = Field(
        default=640, ge=LEAST_REQUESTS, description="histories that give the activations' ranges"
    )
    max_clipped: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="share of an activation's values, on validation histories, that may lie "
        "outside its calibrated range; more is an error",
    )
    per_channel: bool = Field(
        default=True, description="one scale a column instead of one a matrix"
    )
    reduce_range: bool = Field(
        default=True,
        description="7 bits: AVX2 and AVX-512 without VNNI saturate at 8 (ONNX Runtime docs)",
    )
    qat: Literal["never", "auto", "always"] = Field(
        default="auto",
        description="training with the rounding in it (recommender.compression.fake_quantise); "
        "auto: where INT8 without it loses more than qat_above, and only if it helps",
    )
    qat_above: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="share of NDCG@10 on validation that INT8 may lose before auto trains",
    )
    recovery: RecoveryConfig = Field(
        default=RecoveryConfig(epochs=3, learning_rate=5e-4, precision="float32"),
        description="that training; float32, since bfloat16 would round what is rounded already",
    )
    seed: int = Field(default=42, ge=0, description="of the choice of calibration requests")
