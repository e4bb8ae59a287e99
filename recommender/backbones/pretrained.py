"""Finding a Hugging Face decoder: by name, in a folder, or from its description alone."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recommender.errors import KuberecError
from recommender.settings.model import HuggingFaceConfig

TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")
LOCAL = (
    "Without network give model.hf.name a folder: with config.json and model.safetensors, or, "
    "with model.hf.pretrained: false, with config.json alone"
)


def find_decoder(hf: HuggingFaceConfig) -> Any:
    """The decoder that `hf` names, float32: its first `hf.layers`, its weights or random ones.

    Raises:
        KuberecError: nothing is found under that name, or it has no weights, or fewer layers.
    """
    from transformers import AutoConfig, AutoModel

    config = _read(AutoConfig, hf.name, "config.json")
    _keep_layers(config, hf)
    if hf.pretrained:
        decoder = _read(
            AutoModel,
            hf.name,
            "weights in safetensors",
            config=config,
            dtype=torch.float32,
            use_safetensors=True,  # a pickle is a program
        )
        return decoder.train()  # it comes in evaluation mode, and Lightning leaves it there
    return AutoModel.from_config(config, dtype=torch.float32)


def decoder_of(description: dict[str, Any]) -> Any:
    """A decoder with random weights, of the shape that `describe` gave: no network is asked."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(**description)
    return AutoModel.from_config(config, dtype=torch.float32)


def describe(decoder: Any) -> dict[str, Any]:
    """The config of a decoder that reads vectors and no tokens, JSON-ready."""
    description: dict[str, Any] = json.loads(decoder.config.to_json_string(use_diff=False))
    del description["_name_or_path"]  # a path of the machine that trained
    return description | {"vocab_size": 1} | dict.fromkeys(TOKENS)


def _read(kind: Any, name: str, what: str, **options: Any) -> Any:
    """`kind.from_pretrained`: from a folder, else from what was downloaded before, else the hub."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = Path(name).expanduser()
    if folder.is_dir():
        tried = [(str(folder), True)]
    elif folder.is_absolute() or name.startswith((".", "~")):
        raise KuberecError(f"model.hf.name: there is no folder '{name}'. {LOCAL}")
    else:
        tried = [(name, True), (name, False)]
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it lists the weights of the layers that are left out
    try:
        for place, local in tried:
            try:
                return kind.from_pretrained(place, local_files_only=local, **options)
            except (OSError, ValueError, KeyError) as error:
                last = error
    finally:
        logging.set_verbosity(verbosity)
    where = f"the folder '{folder}'" if folder.is_dir() else "the local cache and huggingface.co"
    raise KuberecError(
        f"model.hf.name: no {what} of '{name}' in {where}. {LOCAL} ({_first_line(last)})"
    ) from last


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]


def _keep_layers(config: Any, hf: HuggingFaceConfig) -> None:
    if config.get_text_config() is not config:
        raise KuberecError(
            f"model.hf.name: '{hf.name}' ({config.model_type}) reads more than a sequence of "
            "vectors: name a text-only decoder"
        )
    there = config.num_hidden_layers
    if hf.layers is None:
        return
    if hf.layers > there:
        raise KuberecError(
            f"model.hf.layers: {hf.layers}, but '{hf.name}' has {there}: give 1 to {there}, or "
            "nothing for all"
        )
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: hf.layers]
    config.num_hidden_layers = hf.layers


def add_adapters(decoder: nn.Module, hf: HuggingFaceConfig) -> None:
    """LoRA on `hf.lora_modules`; everything else is frozen. Changes `decoder` in place.

    W x becomes W x + (alpha / rank) · B A x, with B zero at first (Hu et al. 2022, "LoRA",
    arXiv:2106.09685, section 4.1).

    Raises:
        KuberecError: the decoder has no such modules.
    """
    import warnings

    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    linear = [
        name for name, part in decoder.named_modules() if isinstance(part, nn.Linear | Conv1D)
    ]
    ends = sorted({name.rsplit(".", 1)[-1] for name in linear})
    wanted = ends if "all-linear" in hf.lora_modules else list(hf.lora_modules)
    missing = [
        want for want in wanted if not any(f".{name}".endswith(f".{want}") for name in linear)
    ]
    if missing:
        raise KuberecError(
            f"model.hf.lora_modules: '{hf.name}' has no {', '.join(missing)}: its linear layers "
            f"are {', '.join(ends)} ('all-linear' names each)"
        )
    config = LoraConfig(
        r=hf.lora_rank,
        lora_alpha=hf.lora_alpha,
        lora_dropout=hf.lora_dropout,
        target_modules=wanted,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it found GPT-2's Conv1D, and does so
        inject_adapter_in_model(config, decoder)


def without_adapters(decoder: nn.Module) -> None:
    """Fold each adapter into its layer, in place: the same function, with plain layers."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(decoder.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            parent, _, end = name.rpartition(".")
            setattr(decoder.get_submodule(parent), end, layer.get_base_layer())
