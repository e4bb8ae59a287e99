"""`compression`: how the model becomes small, and its budgets."""

from pydantic import Field

from recommender.config import Section


class DistillationConfig(Section):
    """The student and how it learns from the teacher (recommender.compression.distill)."""

    dim: int | None = Field(default=None, gt=0, description="width; nothing: the teacher's")
    layers: int = Field(default=1, gt=0, description="Transformer blocks")
    heads: int | None = Field(default=None, gt=0, description="nothing: the teacher's")
    feedforward: int | None = Field(
        default=None, gt=0, description="inner width in multiples of dim; nothing: the teacher's"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1)
    epochs: int = Field(default=8, gt=0)
    batch_size: int = Field(default=64, gt=0)
    learning_rate: float = Field(default=3e-3, gt=0, le=1)
    temperature: float = Field(default=1.0, gt=0, description="of both softmaxes")
    average_decay: float = Field(default=0.98, ge=0, lt=1, description="as in training")
    reversed_share: float = Field(default=0.5, ge=0, le=1, description="as in training")
    dropped_share: float = Field(
        default=0.15, ge=0, lt=1, description="items left out of a window, for new histories"
    )
    soft_share: float = Field(
        default=1.0, ge=0, le=1, description="of the teacher's targets in the loss"
    )
    seed: int = Field(default=42, ge=0)


class QuantizationConfig(Section):
    """INT8 by ONNX Runtime's static quantiser (recommender.compression.quantize)."""

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


class CompressionConfig(Section):
    """The compressed model and its budgets; a blown one stops the export."""

    distillation: DistillationConfig = DistillationConfig()
    quantization: QuantizationConfig = QuantizationConfig()
    max_quality_loss: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="NDCG@10 lost against the full model, as a share of it",
    )
    min_size_ratio: float = Field(
        default=4.0, gt=0, description="bytes of the full ranker / compressed"
    )
    min_speedup: float = Field(default=1.0, gt=0, description="p50 of the full ranker / compressed")
    max_bytes: int = Field(default=50_000_000, gt=0, description="of the compressed ranker.onnx")
