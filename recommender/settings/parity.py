"""`export.parity`: how far two links of the chain from torch to the server may be apart."""

from typing import Annotated, Literal

from pydantic import Field

from recommender.config import Section

# A pipeline cannot be told null, so that "any" has a word of its own.
ScoreLimit = Annotated[float, Field(gt=0)] | Literal["any"]


class LinkLimits(Section):
    """Of the golden requests' answers before and after a hand-over."""

    min_overlap: float = Field(
        default=0.999, ge=0, le=1, description="mean share of the top K items in common"
    )
    min_top_10_overlap: float = Field(
        default=0.999, ge=0, le=1, description="the same of the first ten"
    )
    max_score_difference: ScoreLimit = Field(
        default=1e-3, description="the largest of their scores, rank by rank; any: not asked"
    )
    mean_score_difference: ScoreLimit = Field(
        default="any", description="the mean of them; any: not asked"
    )


class ServedLimits(LinkLimits):
    """Quantisation is meant to change scores; what it costs is in the ledger."""

    min_overlap: float = Field(default=0.8, ge=0, le=1)
    min_top_10_overlap: float = Field(default=0.8, ge=0, le=1)
    max_score_difference: ScoreLimit = "any"


class EngineLimits(LinkLimits):
    """TensorFloat-32 has 10 bits of mantissa, as float16."""

    min_overlap: float = Field(default=0.98, ge=0, le=1)
    min_top_10_overlap: float = Field(default=0.98, ge=0, le=1)
    max_score_difference: ScoreLimit = "any"


class ParityConfig(Section):
    """Limits of each link: torch → ONNX Runtime FP32 → as served → Triton → TensorRT."""

    onnx: LinkLimits = Field(default=LinkLimits(), description="torch → ONNX Runtime, float32")
    served: ServedLimits = Field(
        default=ServedLimits(),
        description="float32 → the ranker that serves, where a step has quantised it",
    )
    triton: LinkLimits = Field(
        default=LinkLimits(), description="ONNX Runtime in one process → Triton, in each form"
    )
    tensorrt: EngineLimits = Field(
        default=EngineLimits(),
        description="float32 → a TensorRT engine, where one is built",
    )
