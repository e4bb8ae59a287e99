"""The step `quantise-items`."""

from typing import Annotated, Literal

from pydantic import Field

from recommender.config import Section
from recommender.settings.compression.recovery import RecoveryConfig


class Int8ItemsStep(Section):
    """The graph keeps an item as a byte a number and one scale (recommender.item_graphs)."""

    step: Literal["quantise-items"] = "quantise-items"
    kind: Literal["int8-rows"] = "int8-rows"


class ProductItemsStep(Section):
    """The model keeps an item as a few codes (recommender.compression.product_quantiser)."""

    step: Literal["quantise-items"] = "quantise-items"
    kind: Literal["pq"] = "pq"
    subvectors: int = Field(
        default=16, gt=0, description="codes of an item, a byte each; divides model.dim"
    )
    centroids: int = Field(default=256, ge=2, le=256, description="that each code chooses from")
    seed: int = Field(default=42, ge=0, description="of the k-means that makes the codes")
    recovery: RecoveryConfig = Field(
        default=RecoveryConfig(),
        description="training of centroids and model, codes fixed; epochs: 0 for none",
    )


QuantiseItemsStep = Annotated[Int8ItemsStep | ProductItemsStep, Field(discriminator="kind")]
