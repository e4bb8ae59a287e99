"""`model`: the shape of the model."""

from typing import Literal, Self

from pydantic import Field, model_validator

from recommender.config import Section


class HuggingFaceConfig(Section):
    """A pretrained decoder as backbone (recommender.backbones.hf)."""

    name: str = Field(
        min_length=1, description="a Hugging Face name, or a folder with config.json and weights"
    )
    pretrained: bool = Field(
        default=True, description="its weights; false: its shape alone, with random weights"
    )
    layers: int | None = Field(
        default=None, gt=0, description="the first so many of its layers; nothing: all of them"
    )
    lora_rank: int = Field(
        default=16, ge=0, description="of the adapters that are trained; 0: every weight is trained"
    )
    lora_alpha: int = Field(default=32, gt=0, description="scale of the adapters, over lora_rank")
    lora_dropout: float = Field(default=0.05, ge=0, lt=1)
    lora_modules: list[str] = Field(
        default=["q_proj", "k_proj", "v_proj", "o_proj"],
        min_length=1,
        description="names of the linear layers that get an adapter; 'all-linear': each of them",
    )


class BlockShape(Section):
    """One block's own shape; pruning makes them differ (recommender.compression.prune)."""

    heads: int = Field(gt=0, description="attention heads")
    head_dim: int = Field(gt=0, description="width of a head")
    inner: int | None = Field(
        default=None, gt=0, description="width within the transformer's MLP; hstu has none"
    )


class ModelConfig(Section):
    """The shape of the model (recommender.model): items, a backbone, scores."""

    backbone: Literal["transformer", "hstu", "hf"] = Field(
        default="transformer",
        description="what reads a history; hf: a Hugging Face decoder, named in model.hf",
    )
    dim: int = Field(default=128, gt=0, description="width of items and hidden states")
    layers: int = Field(default=2, gt=0, description="blocks; of hf see model.hf.layers")
    heads: int = Field(default=2, gt=0, description="attention heads; divides dim")
    feedforward: int = Field(
        default=1, gt=0, description="inner width of the transformer's MLP, in multiples of dim"
    )
    max_length: int = Field(
        default=50, gt=1, description="latest known items of a history that are read"
    )
    dropout: float = Field(
        default=0.4, ge=0, lt=1, description="on inputs and on residual branches"
    )
    position: Literal["distance", "rotary"] = Field(
        default="distance",
        description="of the transformer: a learnt bias on distances (T5), or rotated queries and "
        "keys (RoPE), which flash attention can read",
    )
    time: Literal["none", "gaps"] = Field(
        default="none",
        description="gaps: a learnt bias on the time between two events, in logarithmic buckets",
    )
    fusion: Literal["sum", "gate"] = Field(
        default="sum",
        description="how an item's id and text meet: added, or weighed by a gate that knows how "
        "often the item was seen, so that rare items lean on their text",
    )
    similarity: Literal["dot", "cosine"] = Field(
        default="dot", description="of a hidden state and an item, which is the item's score"
    )
    temperature: float = Field(
        default=0.05, gt=0, le=1, description="that a cosine is divided by; only with cosine"
    )
    hf: HuggingFaceConfig | None = None
    blocks: list[BlockShape] | None = Field(
        default=None,
        description="each block's own shape, as pruning leaves them: they count, not heads and "
        "feedforward; nothing: all are alike",
    )

    def shapes(self) -> list[BlockShape]:
        """Each block's shape, also where all are alike; of `hf` they say nothing."""
        if self.blocks is not None:
            return self.blocks
        inner = self.feedforward * self.dim if self.backbone == "transformer" else None
        alike = BlockShape(heads=self.heads, head_dim=self.dim // self.heads, inner=inner)
        return [alike] * self.layers

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")
        if self.position == "rotary" and self.dim // self.heads % 2:
            raise ValueError(
                f"position: rotary turns pairs of numbers: dim / heads ({self.dim // self.heads}) "
                "must be even"
            )
        return self

    @model_validator(mode="after")
    def _decoder_is_named(self) -> Self:
        if (self.backbone == "hf") != (self.hf is not None):
            raise ValueError("backbone: hf and a section model.hf go together: give both or none")
        if self.backbone == "hf" and self.time != "none":
            raise ValueError(
                f"time: {self.time} is not for backbone: hf, whose attention has no place for a "
                "bias: set time: none, or backbone: transformer or hstu"
            )
        return self

    @model_validator(mode="after")
    def _blocks_fit(self) -> Self:
        if self.blocks is None:
            return self
        if self.backbone == "hf":
            raise ValueError("blocks: are not for backbone: hf, whose blocks are model.hf's")
        if len(self.blocks) != self.layers:
            raise ValueError(f"blocks: {len(self.blocks)} shapes, but layers: {self.layers}")
        for index, block in enumerate(self.blocks):
            width = block.heads * block.head_dim
            if width > self.dim:
                raise ValueError(
                    f"blocks.{index}: heads x head_dim is {block.heads} x {block.head_dim} = "
                    f"{width}, more than dim ({self.dim})"
                )
            if self.position == "rotary" and block.head_dim % 2:
                raise ValueError(
                    f"blocks.{index}: head_dim ({block.head_dim}) must be even: position: rotary "
                    "turns pairs of numbers"
                )
            if (block.inner is not None) != (self.backbone == "transformer"):
                raise ValueError(
                    f"blocks.{index}: inner goes with backbone: transformer, which has an MLP; "
                    f"this is {self.backbone}"
                )
        return self
