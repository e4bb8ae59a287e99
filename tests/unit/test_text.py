"""Cleaning, and the encoder with its cache (a tiny BERT made on the spot)."""

import json
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recommender.errors import KuberecError
from recommender.settings import TextConfig
from recommender.text import (
    cached_vectors,
    clean_text,
    encode_items,
    encode_texts,
    encoder_location,
    item_text,
)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Léon&nbsp;&amp; Co", "Léon & Co"),
        ("<p>Toy <b>Story</b></p><br/>", "Toy Story"),
        ("&lt;i&gt;Alien&lt;/i&gt;", "Alien"),
        ("ﬁlm １９９５", "film 1995"),
        ("a\x00b\u200bc\t\n d", "abc d"),
        ("love <3 and 1 < 2 > 0", "love <3 and 1 < 2 > 0"),
        ("<!-- hidden -->seen", "seen"),
        ("", ""),
    ],
)
def test_clean_text(raw, clean):
    assert clean_text(raw) == clean


@given(st.text(max_size=40) | st.text(alphabet="<>&;amplt/b! ", max_size=30))
def test_cleaning_twice_is_cleaning_once(raw):
    clean = clean_text(raw)
    assert clean_text(clean) == clean
    assert unicodedata.normalize("NFKC", clean) == clean
    assert clean == " ".join(clean.split())


def test_item_text_says_title_once():
    assert item_text("Toy Story", ["Animation", ""], "Toy Story (1995)") == (
        "Toy Story (1995). Animation"
    )
    assert item_text("Alien", [], "In space") == "Alien. In space"
    assert item_text("Alien") == "Alien"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A folder with a BERT of 16 dimensions and a character vocabulary."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    (folder / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return TextConfig(encoder=str(folder), batch_size=2, max_tokens=32)


def test_vectors_do_not_depend_on_batch_and_order(encoder):
    texts = ["a", "some longer text here", "b c", "zebra", ""]
    vectors = encode_texts(texts, encoder)
    assert vectors.shape == (5, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(encode_texts([text], encoder)[0], vector, atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_only_new_texts_are_encoded(encoder, tmp_path):
    encoded = []

    def progress(done, total, message):
        encoded.append((done, total))

    first, hits = cached_vectors(["a", "b", "a"], encoder, tmp_path, progress)
    assert (hits, encoded[-1]) == (0, (2, 2))
    np.testing.assert_array_equal(first[0], first[2])
    encoded.clear()
    second, hits = cached_vectors(["b", "c"], encoder, tmp_path, progress)
    assert (hits, encoded) == (1, [(1, 1)])
    np.testing.assert_array_equal(second[0], first[1])
    encoded.clear()
    cached_vectors(["c", "b", "a"], encoder, tmp_path, progress)
    assert not encoded
    assert len(list(tmp_path.iterdir())) == 1


def test_item_vectors_artifact(encoder, tmp_path):
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    items = {"item_id": ["1", "2"], "title": ["a", "b"], "text": ["", "b c"]}
    items["categories"] = pa.array([["x"], []], pa.list_(pa.string()))
    pq.write_table(pa.table(items), snapshot / "items.parquet")
    encode_items(snapshot, encoder, tmp_path / "cache", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "vectors.parquet")
    assert table["item_id"].to_pylist() == ["1", "2"]
    assert np.stack(table["vector"].to_numpy()).shape == (2, 16)
    description = json.loads((tmp_path / "out" / "encoder.json").read_text())
    assert description["dim"] == 16
    assert (description["count"], description["from_cache"]) == (2, 0)


def test_the_packaged_encoder_is_found_without_importing_it():
    from pathlib import Path

    folder = Path(encoder_location("all-MiniLM-L6-v2"))
    assert (folder / "model.safetensors").is_file()
    assert (folder / "tokenizer.json").is_file()


def test_an_encoder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(KuberecError, match=r"cannot load text.encoder .*: give all-MiniLM-L6-v2"):
        encode_texts(["a"], TextConfig(encoder=str(tmp_path)))
