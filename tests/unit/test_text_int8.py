"""A text encoder in INT8: near the exact vectors, the same for a text in any company."""

import numpy as np
import onnx
import pytest
import torch
from text_encoder import write_encoder

from recommender.errors import KuberecError
from recommender.settings import TextConfig
from recommender.text import Encoder, encode_texts, int8
from recommender.text.cache import cached_vectors

torch.set_num_threads(1)
TEXTS = ["a", "some longer text here", "b c", "zebra", ""]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = write_encoder(tmp_path_factory.mktemp("encoder"))
    return TextConfig(
        encoder=str(folder), batch_size=2, max_tokens=32, device="cpu", precision="int8"
    )


@pytest.fixture(scope="module")
def encoder(config):
    return Encoder(config)


def test_vectors_are_near_the_exact_ones(config, encoder):
    exact = encode_texts(TEXTS, config.model_copy(update={"precision": "float32"}))
    rounded = encoder.encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, rtol=1e-5)
    assert (exact * rounded).sum(axis=1).min() > 0.99
    assert np.abs(exact - rounded).max() > 0


def test_a_text_has_the_same_vector_to_the_bit_in_any_company(encoder):
    told = []
    together = encoder.encode(TEXTS, lambda *words: told.append(words[:2]))
    for text, vector in zip(TEXTS, together, strict=True):
        assert (encoder.encode([text])[0] == vector).all()
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_its_weights_are_bytes(config, tmp_path):
    _, model = Encoder(config.model_copy(update={"precision": "float32"}))._loaded
    int8._write_graph(model, tmp_path / "exact.onnx", "tiny")
    int8._quantise(tmp_path / "exact.onnx", tmp_path / "int8.onnx")
    held = onnx.load(str(tmp_path / "int8.onnx")).graph.initializer
    matrices = [each for each in held if len(each.dims) == 2 and min(each.dims) > 2]
    assert len(matrices) >= 7  # three embeddings, and a block's six products, one or two merged
    assert {each.data_type for each in matrices} <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


def test_cached_vectors_of_int8_are_its_own(config, encoder, tmp_path):
    exact = Encoder(config.model_copy(update={"precision": "float32"}))
    assert exact.fingerprint != encoder.fingerprint
    first, known = cached_vectors(TEXTS, exact, tmp_path)
    assert known == 0
    second, known = cached_vectors(TEXTS, encoder, tmp_path)
    assert known == 0
    assert np.abs(first - second).max() > 0
    again, known = cached_vectors(TEXTS, Encoder(config), tmp_path)
    assert known == len(TEXTS)
    assert (again == second).all()


def test_it_is_for_cpus(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Encoder(config.model_copy(update={"device": "auto"})).device == "cpu"
    with pytest.raises(KuberecError, match=r"text.precision: int8 .*: set text.device: auto or"):
        Encoder(config.model_copy(update={"device": "cuda"}))


def test_an_encoder_without_a_graph_is_named():
    class Odd(torch.nn.Module):
        config = None

        def forward(self, **_):
            raise TypeError("no such argument")

    with pytest.raises(KuberecError, match=r"int8: the encoder 'odd' cannot be written as an ONNX"):
        int8.Int8Encoder(Odd(), "odd")
