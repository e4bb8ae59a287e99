"""The step `quantise`."""

from typing import Literal

from pydantic import Field

from recommender.config import Section


class QuantiseStep(Section):
    """INT8 by ONNX Runtime's static quantiser (recommender.compression.quantize)."""

    step: Literal["quantise"] = "quantise"
    calibration_requests: int = Field(
        default=640, gt=0, description="histories that give the activations' ranges"
    )
    per_channel: bool = Field(
        default=True, description="one scale a column instead of one a matrix"
    )
    reduce_range: bool = Field(
        default=True,
        description="7 bits: AVX2 and AVX-512 without VNNI saturate at 8 (ONNX Runtime docs)",
    )
    seed: int = Field(default=42, ge=0, description="of the choice of calibration requests")
