"""The step `prune`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from recommender.config import Section
from recommender.settings.compression.recovery import RecoveryConfig


def _share_or_count(value: float) -> float:
    if value >= 1 and value != int(value):
        raise ValueError(f"{value:g} is no count: give a whole number, or a share below 1")
    return value


# A pipeline's arguments come back as floating-point numbers, so that 1 and 1.0 mean the same: one.
Kept = Annotated[float, Field(gt=0), AfterValidator(_share_or_count)]


class PruneStep(Section):
    """Layers, heads and inner units are cut out for good (recommender.compression.prune)."""

    step: Literal["prune"] = "prune"
    layers: Kept | None = Field(
        default=None,
        description="blocks that are kept: below 1 a share of them, rounded to the nearest number, "
        "from 1 on their number; nothing: all. The same for heads and feedforward",
    )
    heads: Kept | None = Field(default=None, description="attention heads kept in each block")
    feedforward: Kept | None = Field(
        default=None, description="inner units of the MLP kept in each block; hstu has no MLP"
    )
    scope: Literal["layer", "global"] = Field(
        default="layer",
        description="layer: so many of each block; global: shares of all blocks' together, so that "
        "blocks come out unlike, each with one head and one unit at least",
    )
    importance: Literal["taylor", "magnitude"] = Field(
        default="taylor",
        description="of heads and units: what the loss would change by without them, to first "
        "order (Molchanov et al. 2019, Michel et al. 2019), or the L1 norm of their weights",
    )
    layer_importance: Literal["loss", "influence"] = Field(
        default="loss",
        description="of blocks: what the loss rises by without it, or how much it turns the "
        "hidden states (block influence, Men et al. 2024)",
    )
    windows: int = Field(
        default=1024, gt=0, description="training histories that importance is measured on"
    )
    seed: int = Field(default=42, ge=0, description="of the choice of those histories")
    recovery: RecoveryConfig = Field(
        default=RecoveryConfig(), description="training of the smaller model; epochs: 0 for none"
    )

    @model_validator(mode="after")
    def _cuts_something(self) -> Self:
        kept = {"heads": self.heads, "feedforward": self.feedforward}
        if self.layers is None and not any(kept.values()):
            raise ValueError("nothing is pruned: give layers, heads or feedforward, what is kept")
        for name, value in kept.items():
            if self.scope == "global" and value is not None and value >= 1:
                raise ValueError(
                    f"{name}: {value:g} is a number, and scope: global takes a share below 1"
                )
        return self
