"""Texts to vectors by an encoder: batches, precision, device, and encoders that are not there."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from text_encoder import DIM, write_encoder

from recommender.errors import KuberecError
from recommender.settings import TextConfig
from recommender.text import Encoder, encode_texts, encoder_location
from recommender.text.encoder import weights_fingerprint

TEXTS = ["a", "some longer text here", "b c", "zebra", ""]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = write_encoder(tmp_path_factory.mktemp("encoder"))
    return TextConfig(encoder=str(folder), batch_size=2, max_tokens=32, device="cpu")


def test_vectors_do_not_depend_on_batch_and_order(config):
    vectors = encode_texts(TEXTS, config)
    assert vectors.shape == (5, DIM)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(encode_texts([text], config)[0], vector, atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_batches_are_of_texts_of_a_like_length(config):
    """The longest two share a batch, and no short text is padded to their length."""
    encoder = Encoder(config)
    _, model = encoder._loaded
    shapes = []
    handle = model.register_forward_pre_hook(
        lambda _module, _args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    encoder.encode(["abcdefgh", "a", "abcdefgi", "b"])
    handle.remove()
    assert shapes == [(2, 3), (2, 10)]  # with [CLS] and [SEP]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_rounds_and_no_more(config, precision):
    exact = encode_texts(TEXTS, config)
    mixed = encode_texts(TEXTS, config.model_copy(update={"precision": precision}))
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(mixed, axis=1), 1, rtol=1e-5)
    assert (exact * mixed).sum(axis=1).min() > 0.999
    assert np.abs(exact - mixed).max() > 0


def test_auto_is_exact_on_a_cpu(config):
    encoder = Encoder(config)
    assert (encoder.device, encoder.precision) == ("cpu", "float32")


def test_a_gpu_that_is_not_there_is_said(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(KuberecError, match=r"text.device is cuda, but .*: set it to auto or cpu"):
        Encoder(config.model_copy(update={"device": "cuda"}))


def test_what_changes_a_vector_changes_the_fingerprint(config, tmp_path):
    def of(**changes) -> str:
        return Encoder(config.model_copy(update=changes)).fingerprint

    same = of()
    assert of(batch_size=7, features=["tfidf-svd"]) == same
    other_weights = str(write_encoder(tmp_path / "other", seed=1))
    changed = [of(max_tokens=16), of(precision="bfloat16"), of(encoder=other_weights)]
    assert len({same, *changed}) == 4


def test_new_weights_in_the_same_folder_are_another_encoder(tmp_path):
    folder = str(write_encoder(tmp_path))
    before = weights_fingerprint(folder)
    assert weights_fingerprint(folder) == before
    write_encoder(tmp_path, seed=1)
    assert weights_fingerprint(folder) != before


def test_a_hugging_face_name_is_told_by_its_commit(tmp_path):
    """From the hub's cache alone, in the layout that the hub's client gives it."""
    model = tmp_path / "hub" / "models--some--encoder"
    write_encoder(model / "snapshots" / ("a" * 40))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("a" * 40)
    code = (
        "from recommender.text.encoder import weights_fingerprint; "
        "print(weights_fingerprint('some/encoder'))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "a" * 40, done.stderr


def test_the_packaged_encoder_knows_what_belongs_together():
    folder = Path(encoder_location("all-MiniLM-L6-v2"))
    assert (folder / "model.safetensors").is_file()
    config = TextConfig(device="cpu")
    texts = ["A film about space travel", "Astronauts fly to the moon", "A recipe for onion soup"]
    space, moon, soup = encode_texts(texts, config)
    assert space.shape == (384,)
    assert space @ moon > space @ soup + 0.2


def test_an_encoder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(KuberecError, match=r"cannot load text.encoder .*: give all-MiniLM-L6-v2"):
        encode_texts(["a"], TextConfig(encoder=str(tmp_path)))
