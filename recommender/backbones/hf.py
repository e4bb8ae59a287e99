"""Any Hugging Face decoder as a backbone: it reads items' vectors instead of tokens'.

As in the language models that are taught items' embeddings (LLaRA, Liao et al. 2024,
arXiv:2312.02445; E4SRec, Li et al. 2023, arXiv:2312.02443): a linear map into the decoder's width,
its blocks, a linear map back. What it knows of sequences is in the blocks; tokens are left out.
"""

from typing import Any

import torch
from torch import Tensor, nn

from recommender.backbones.base import Backbone
from recommender.backbones.pretrained import add_adapters, decoder_of, describe, find_decoder
from recommender.errors import KuberecError
from recommender.settings import ModelConfig
from recommender.settings.model import HuggingFaceConfig


class HuggingFaceDecoder(Backbone):
    """Any decoder of transformers (Llama, Qwen, Mistral, Gemma, GPT-2 …) by `inputs_embeds`.

    With `hf.lora_rank` the decoder is frozen, and adapters on `hf.lora_modules` and the two linear
    maps are trained; with 0 all is.

    Args:
        config: with a section `hf`; `hf.name` is looked up unless there is a
        description: what `description()` gave: the shape comes from it, weights are random, and
            neither network nor folder is asked.

    Raises:
        KuberecError: no such decoder; it is not causal; fewer layers or positions than asked for;
            no such modules.
    """

    def __init__(self, config: ModelConfig, description: dict[str, Any] | None = None) -> None:
        super().__init__()
        assert config.hf is not None  # ModelConfig has checked it
        hf = config.hf
        decoder = find_decoder(hf) if description is None else decoder_of(description)
        _check_positions(decoder.config, hf, config.max_length)
        size = _token_size(decoder.get_input_embeddings())
        decoder.set_input_embeddings(nn.Identity())  # tokens' rows: often a third of the weights
        if description is None:
            _check_causal(decoder, hf)
        self._description = describe(decoder)
        if hf.lora_rank:
            add_adapters(decoder, hf)
        self.decoder = decoder
        width = decoder.config.hidden_size
        self.project_in = nn.Linear(config.dim, width)
        self.project_out = nn.Linear(width, config.dim)
        # Normed items have numbers of about 1: they enter as large as the tokens that it knows.
        nn.init.normal_(self.project_in.weight, std=size / config.dim**0.5)
        nn.init.zeros_(self.project_in.bias)

    def description(self) -> dict[str, Any]:
        """The decoder's config, JSON-ready: with it and the weights it is made again."""
        return self._description

    def forward(
        self,
        x_BLD: Tensor,
        known_BL: Tensor | None,
        times_BL: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        padding: dict[str, Tensor] = {}
        if known_BL is not None:
            # Positions count from the first known item, so that left padding changes nothing.
            padding = {
                "attention_mask": known_BL.long(),
                "position_ids": (known_BL.long().cumsum(1) - 1).clamp(min=0),
            }
        hidden_BLH = self.decoder(
            inputs_embeds=self.project_in(x_BLD), use_cache=False, **padding
        ).last_hidden_state
        return self.project_out(hidden_BLH[:, -1:] if last_only else hidden_BLH)


@torch.no_grad()
def _token_size(embedding: Any) -> float:
    """Standard deviation of the vectors that a decoder reads for its tokens.

    Not of the table's rows: Gemma's are scaled up on their way out.
    """
    rows = embedding.weight
    if len(rows) < 2:  # of a saved model, whose weights are still to come
        return 0.02
    some = torch.arange(min(len(rows), 64), device=rows.device)
    scale = embedding(some).float().norm() / rows[some].float().norm().clamp(min=1e-12)
    return float(rows.float().std() * scale)


def _check_positions(config: Any, hf: HuggingFaceConfig, length: int) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions and length > positions:
        raise KuberecError(
            f"model.max_length: {length}, but '{hf.name}' has {positions} positions: lower it"
        )


def _check_causal(decoder: Any, hf: HuggingFaceConfig) -> None:
    """What comes out at a place must not depend on what comes after: asked of its gradient."""
    training = decoder.training
    decoder.eval()
    x_1LH = torch.ones(1, 3, decoder.config.hidden_size)
    x_1LH[0, 1] = torch.linspace(-1, 1, x_1LH.shape[-1])
    x_1LH.requires_grad_()
    try:
        hidden = decoder(inputs_embeds=x_1LH, use_cache=False).last_hidden_state[0, 1]
    except (TypeError, ValueError, AttributeError) as error:
        raise KuberecError(
            f"model.hf.name: '{hf.name}' ({decoder.config.model_type}) cannot read vectors: name "
            f"a decoder, such as Llama, Qwen, Mistral or GPT-2 ({error})"
        ) from error
    (slope_1LH,) = torch.autograd.grad((hidden * torch.linspace(-1, 2, len(hidden))).sum(), x_1LH)
    decoder.train(training)
    if slope_1LH[0, 2].abs().max() > 0:
        raise KuberecError(
            f"model.hf.name: '{hf.name}' ({decoder.config.model_type}) sees the future: name a "
            "decoder, such as Llama, Qwen, Mistral or GPT-2"
        )
