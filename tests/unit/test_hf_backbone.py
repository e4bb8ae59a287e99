"""Hugging Face decoders as backbones: what they see, what is trained, what is kept, what is said.

Real architectures of transformers with random weights; nothing is downloaded.
"""

import json
from pathlib import Path

import pytest
import torch
from decoder_folders import decoder_config, decoder_folder
from recommender_data import ITEMS, TEXT_DIM, vocabulary
from transformers import AutoModel

from recommender.errors import KuberecError
from recommender.model import SequentialRecommender, load_model, save_model
from recommender.settings import ModelConfig

KINDS = ("llama", "gpt2", "gemma2")
MODULES = {"llama": "q_proj", "gpt2": "c_attn", "gemma2": "v_proj"}


def make(config: ModelConfig, spread: bool = True) -> SequentialRecommender:
    """A model on that decoder; `spread`: what starts at zero, adapters too, is moved from it."""
    torch.manual_seed(0)
    model = SequentialRecommender(config, torch.randn(ITEMS + 1, TEXT_DIM), torch.randn(ITEMS + 1))
    if spread:
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory) -> SequentialRecommender:
    folder = decoder_folder(tmp_path_factory.mktemp(request.param), request.param)
    return make(decoder_config(folder, lora_modules=[MODULES[request.param]]))


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return decoder_folder(tmp_path_factory.mktemp("decoder"))


def history(length: int = 6) -> torch.Tensor:
    return torch.arange(1, length + 1)[None] * 4


def test_it_is_causal_and_every_item_matters(model) -> None:
    table = model.item_table()
    before = model.encode(history(), table)
    for place in range(6):
        changed = history()
        changed[0, place] += 1
        moved_L = (model.encode(changed, table) - before).abs().amax(dim=(0, 2))
        assert moved_L[:place].max() < 1e-5 if place else True
        assert moved_L[place:].min() > 1e-4


@pytest.mark.parametrize("padding", [1, 4])
def test_padding_on_either_side_changes_nothing(model, padding) -> None:
    zeros = torch.zeros(1, padding, dtype=torch.int64)
    table = model.item_table()
    alone = model.encode(history(), table)
    left = model.encode(torch.cat([zeros, history()], dim=1), table)
    torch.testing.assert_close(left[:, padding:], alone, atol=1e-4, rtol=1e-4)
    right = model.encode(torch.cat([history(), zeros], dim=1), table, right_padded=True)
    torch.testing.assert_close(right[:, :6], alone, atol=1e-4, rtol=1e-4)


def test_the_batch_and_an_empty_history_change_no_answer(model) -> None:
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.int64), history()], dim=1)
    together = model(torch.cat([torch.zeros(1, 10, dtype=torch.int64), padded]))
    assert together.isfinite().all()
    torch.testing.assert_close(together[1:], model(history()), atol=1e-4, rtol=1e-4)


def test_with_adapters_the_decoder_is_frozen_and_starts_as_it_was(llama) -> None:
    adapted, whole = make(decoder_config(llama), False), make(decoder_config(llama, lora_rank=0))
    trained = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    of_decoder = {name for name in trained if name.startswith("backbone.decoder.")}
    assert of_decoder
    assert all(".lora_" in name for name in of_decoder)
    assert {"id_embedding.weight", "backbone.project_in.weight"} < trained
    assert all(weight.requires_grad for weight in whole.parameters())
    bare = make(decoder_config(llama, lora_rank=0), False)
    for name, value in bare.state_dict().items():
        if not name.startswith("backbone.decoder."):
            adapted.state_dict()[name].copy_(value)
    torch.testing.assert_close(adapted(history()), bare(history()))


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_new_model_is_in_training_mode_with_its_decoders_dropout(tmp_path, pretrained) -> None:
    """Lightning keeps each part's mode, and transformers gives weights in evaluation mode."""
    folder = decoder_folder(tmp_path, "gpt2")
    config = decoder_config(folder, lora_rank=0, pretrained=pretrained)
    torch.manual_seed(0)
    backbone = SequentialRecommender(config, torch.randn(9, TEXT_DIM), torch.randn(9)).backbone
    assert all(part.training for part in backbone.modules())
    x_1LD = torch.randn(1, 6, config.dim)
    assert (backbone(x_1LD, None) - backbone(x_1LD, None)).abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_items_enter_as_large_as_tokens(tmp_path, kind) -> None:
    folder = decoder_folder(tmp_path, kind)
    tokens = AutoModel.from_pretrained(folder).get_input_embeddings()(torch.arange(50))
    torch.manual_seed(0)
    config = decoder_config(folder, lora_modules=[MODULES[kind]])
    backbone = SequentialRecommender(config, torch.randn(9, TEXT_DIM), torch.randn(9)).backbone
    items = torch.nn.functional.layer_norm(torch.randn(500, config.dim), (config.dim,))
    entered = backbone.project_in(items).detach()
    assert float(entered.std() / tokens.detach().std()) == pytest.approx(1, abs=0.3)


def test_tokens_are_left_out_and_layers_are_the_first(llama) -> None:
    from safetensors.torch import load_file

    model = make(decoder_config(llama, layers=2, lora_rank=0), False)
    stored = load_file(llama / "model.safetensors")
    kept = model.backbone.decoder.state_dict()
    assert not [name for name in kept if "embed" in name]
    assert {name.split(".")[1] for name in kept if name.startswith("layers")} == {"0", "1"}
    for name, value in kept.items():
        torch.testing.assert_close(value, stored[name])


def test_a_folder_with_a_config_alone_gives_its_shape(tmp_path) -> None:
    folder = decoder_folder(tmp_path, weights=False)
    assert make(decoder_config(folder, pretrained=False))(history()).isfinite().all()
    with pytest.raises(KuberecError, match=r"no weights in safetensors.*pretrained: false"):
        make(decoder_config(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_needs_nothing_else(kind, tmp_path) -> None:
    folder = decoder_folder(tmp_path / "decoder", kind)
    model = make(decoder_config(folder, layers=2, lora_modules=[MODULES[kind]]))
    (tmp_path / "model").mkdir()
    save_model(model, vocabulary(), tmp_path / "model")
    for file in folder.iterdir():
        file.unlink()
    loaded = load_model(tmp_path / "model")
    torch.testing.assert_close(loaded(history()), model(history()), rtol=0, atol=0)
    assert str(folder) not in json.dumps(
        json.loads((tmp_path / "model" / "model.json").read_text())["decoder"]
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora_modules": ["c_attn"]}, r"has no c_attn: its linear layers are down_proj, gate_pro"),
        ({"layers": 4}, r"model.hf.layers: 4, but .* has 3: give 1 to 3"),
        ({"name": "/nowhere/to/be/found"}, r"there is no folder.*config.json alone"),
    ],
)
def test_what_cannot_be_had_is_said(llama, changes, said) -> None:
    with pytest.raises(KuberecError, match=said):
        make(decoder_config(changes.pop("name", llama), **changes))


def test_a_name_that_nobody_has_names_what_was_tried(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(KuberecError, match=r"'kuberec/none' in the local cache and huggingface.co"):
        make(decoder_config("kuberec/none"))


def test_a_network_that_sees_the_future_is_refused(tmp_path) -> None:
    with pytest.raises(KuberecError, match="sees the future"):
        make(decoder_config(decoder_folder(tmp_path, "bert"), lora_modules=["query"]))


def test_more_history_than_positions_is_refused(tmp_path) -> None:
    config = decoder_config(decoder_folder(tmp_path, "gpt2"), lora_modules=["c_attn"])
    with pytest.raises(KuberecError, match=r"max_length: 40, but .* has 32 positions"):
        make(config.model_copy(update={"max_length": 40}))


def test_time_gaps_are_refused_in_the_settings() -> None:
    with pytest.raises(ValueError, match="time: gaps is not for backbone: hf"):
        ModelConfig(backbone="hf", time="gaps", hf={"name": "x"})
