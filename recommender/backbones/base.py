"""The interface of a backbone, and which one a config names."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from recommender.settings import ModelConfig


class Backbone(nn.Module, ABC):
    """Reads embedded histories causally: what comes out at a position knows nothing after it.

    Shapes: B batch, L length, D `config.dim`.
    """

    @abstractmethod
    def forward(
        self,
        x_BLD: Tensor,
        known_BL: Tensor | None,
        times_BL: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Hidden states, [B, L, D]; of the last position alone, [B, 1, D], with `last_only`.

        Args:
            x_BLD: the history's items, as the model's input norm and dropout leave them.
            known_BL: false where there is padding, on whichever side. None: padding, if there is
                any, is on the right, so that being causal hides it.
            times_BL: seconds since 1970, int64; 0 where unknown, and for padding. None: all are.
        """

    def description(self) -> dict[str, Any] | None:
        """What a saved model must hold beside config and weights, JSON-ready; None: nothing."""
        return None


Part = tuple[int, Tensor]  # a dimension of a weight, and the indices that stay


class BackboneBlock(nn.Module, ABC):
    """A block of a backbone of ours: where its heads and inner units are, for what prunes them.

    Heads lie one after the other in the columns of `heads_end`'s input.
    """

    heads: int

    @property
    @abstractmethod
    def heads_end(self) -> nn.Linear:
        """The linear layer that reads what the heads give, [..., heads x head_dim]."""

    @property
    @abstractmethod
    def inner_end(self) -> nn.Linear | None:
        """The linear layer that reads the MLP's inner units; None: there is no MLP."""

    @abstractmethod
    def coupled(self, columns: Tensor, heads: Tensor, inner: Tensor) -> dict[str, Part]:
        """What of each weight stays with some heads and units; weights not named stay whole.

        Args:
            columns: of `heads_end`'s input that stay, int64; heads: the same as numbers of heads.
            inner: units of the MLP that stay, int64; of no meaning without an MLP.

        Returns:
            By name in the block's state, also of weights that it may not have.
        """


def make_backbone(config: ModelConfig, decoder: dict[str, Any] | None = None) -> Backbone:
    """An untrained backbone (a pretrained one, with `hf`), of `config`'s shape.

    `decoder`: of `hf`, what `Backbone.description` gave: nothing is looked up.
    """
    if config.backbone == "hstu":
        from recommender.backbones.hstu import Hstu

        return Hstu(config)
    if config.backbone == "hf":
        from recommender.backbones.hf import HuggingFaceDecoder

        return HuggingFaceDecoder(config, decoder)
    from recommender.backbones.transformer import Transformer

    return Transformer(config)
