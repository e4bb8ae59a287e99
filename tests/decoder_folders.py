"""Tiny Hugging Face decoders in folders: real architectures, random weights, no network."""

from pathlib import Path
from typing import Any

from recommender.settings import ModelConfig

SIZES: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 1, "intermediate_size": 24},
    "gpt2": {"max_position_embeddings": 32},
    "gemma2": {"num_key_value_heads": 1, "intermediate_size": 24, "head_dim": 8},
    "bert": {"intermediate_size": 24},
}


def decoder_folder(folder: Path, kind: str = "llama", weights: bool = True) -> Path:
    """config.json, and weights, of a decoder of 3 layers, width 16 and 50 tokens."""
    import torch
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(
        kind,
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        **SIZES[kind],
    )
    torch.manual_seed(3)
    if weights:
        AutoModel.from_config(config).save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    return folder


def decoder_config(folder: Path | str, **hf: Any) -> ModelConfig:
    """The tiny model of `recommender_data` with that decoder; `hf`: of model.hf."""
    return ModelConfig(
        backbone="hf",
        dim=12,
        heads=2,
        max_length=10,
        dropout=0.1,
        hf={"name": str(folder), "lora_rank": 4, "lora_dropout": 0.0, **hf},  # type: ignore[arg-type]
    )
