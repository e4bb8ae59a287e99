"""fit() on a decoder with adapters: what learns, what stays, what a checkpoint holds."""

import pytest
import torch
from decoder_folders import decoder_config, decoder_folder
from recommender_data import write_vectors, write_windows
from safetensors.torch import load_file

from recommender.compression.distill import distil
from recommender.export import export_ranker, torch_onnx_parity
from recommender.model import load_model
from recommender.ranker_inputs import ranker_inputs
from recommender.sequences import Vocabulary, load_windows
from recommender.settings import DistilStep, TrainingConfig
from recommender.training.fit import fit

CONFIG = TrainingConfig(
    epochs=4, batch_size=8, learning_rate=0.02, warmup_epochs=0.5, seed=7, threads=1
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return write_windows(root / "windows"), write_vectors(root / "vectors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return decoder_folder(tmp_path_factory.mktemp("decoder"))


@pytest.fixture(scope="module")
def finished(data, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "model"
    return out, fit(*data, decoder_config(folder), CONFIG, out)


def test_adapters_learn_and_the_decoder_stays_as_it_was(finished, folder) -> None:
    out, record = finished
    curves = record["curves"]
    assert curves[record["best_epoch"]]["ndcg@10"] > 0.4  # a random order: 0.15
    stored = load_file(folder / "model.safetensors")
    trained = load_model(out).backbone.decoder.state_dict()
    adapters = [name for name in trained if ".lora_B." in name]
    assert adapters
    assert all(trained[name].abs().max() > 0 for name in adapters)
    base = {name.replace(".base_layer", ""): value for name, value in trained.items()}
    for name, value in stored.items():
        if "embed" not in name:
            torch.testing.assert_close(base[name], value, rtol=0, atol=0)


class Stopped(Exception):
    pass


def test_a_checkpoint_holds_what_was_trained_and_is_gone_on_from(
    data, folder, finished, tmp_path
) -> None:
    def stop(done: int, total: int, message: str) -> None:
        if done == 3:
            raise Stopped

    config = decoder_config(folder)
    with pytest.raises(Stopped):
        fit(*data, config, CONFIG, tmp_path / "model", tmp_path / "state", stop)
    saved = torch.load(tmp_path / "state" / "last.ckpt", weights_only=True)
    for names in (saved["state_dict"], saved["kuberec"]["best"]):
        of_decoder = [name for name in names if ".decoder." in name]
        assert of_decoder
        assert all(".lora_" in name for name in of_decoder)
        assert not [name for name in names if name.endswith("text_vectors")]
    fit(*data, config, CONFIG, tmp_path / "model", tmp_path / "state")
    whole = load_model(finished[0]).state_dict()
    for name, value in load_model(tmp_path / "model").state_dict().items():
        torch.testing.assert_close(value, whole[name], atol=1e-5, rtol=1e-5)


def test_a_transformer_learns_the_decoders_scores_states_and_order(data, finished, tmp_path):
    """From the decoder to a graph: the student's blocks learn from those of another width."""
    teacher = load_model(finished[0])
    step = DistilStep(
        layers=2, heads=2, feedforward=2, dropout=0.0, epochs=6, batch_size=8, learning_rate=0.02,
        hidden_weight=1.0, ranking_weight=0.5, precision="float32", threads=1,
    )  # fmt: skip
    splits = load_windows(data[0], Vocabulary.load(finished[0] / "vocabulary.json"))
    student, curve = distil(teacher, splits, step)
    assert student.config.backbone == "transformer"
    assert student.config.hf is None
    assert curve[-1]["hidden_loss"] < 0.8 * curve[0]["hidden_loss"]
    assert curve[-1]["ndcg@10"] > 0.4  # a random order: 0.15
    export_ranker(student, tmp_path / "ranker.onnx", 10, 20)
    history, seen = ranker_inputs(splits["test"].histories, student.config.max_length, 20)
    parity = torch_onnx_parity(student, tmp_path / "ranker.onnx", history, seen)
    assert parity["top_k_overlap"] == 1.0
