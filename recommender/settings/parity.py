"""`export.parity`: how far two links of the chain from torch to the server may be apart."""

from pydantic import Field

from recommender.config import Section


class LinkLimits(Section):
    """Of the golden requests' answers before and after a hand-over."""

    min_overlap: float = Field(
        default=0.999, ge=0, le=1, description="mean share of the top K items in common"
    )
    min_top_10_overlap: float = Field(
        default=0.999, ge=0, le=1, description="the same of the first ten"
    )
    max_score_difference: float | None = Field(
        default=1e-3, gt=0, description="the largest of their scores, rank by rank; nothing: any"
    )
    mean_score_difference: float | None = Field(
        default=None, gt=0, description="the mean of them; nothing: any"
    )


class ServedLimits(LinkLimits):
    """Quantisation is meant to change scores; what it costs is in the ledger."""

    min_overlap: float = Field(default=0.8, ge=0, le=1)
    min_top_10_overlap: float = Field(default=0.8, ge=0, le=1)
    max_score_difference: float | None = Field(default=None, gt=0)


class EngineLimits(LinkLimits):
    """TensorFloat-32 has 10 bits of mantissa, as float16."""

    min_overlap: float = Field(default=0.98, ge=0, le=1)
    min_top_10_overlap: float = Field(default=0.98, ge=0, le=1)
    max_score_difference: float | None = Field(default=None, gt=0)


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
