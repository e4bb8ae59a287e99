"""item_vectors/: what it is made of, what is encoded again, and what lies beside it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from text_encoder import DIM, write_encoder

from recommender.errors import KuberecError
from recommender.files import sha256_tree
from recommender.settings import TextConfig, TfidfConfig
from recommender.text import TfidfSvd, encode_items, item_text

TITLES = ["alien", "alien two", "space", "comedy space"]
TFIDF = TfidfConfig(min_df=1, dim=3)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(write_encoder(tmp_path_factory.mktemp("encoder")))


def config(encoder: str, *features: str, **changes) -> TextConfig:
    changes = {"tfidf": TFIDF, "max_tokens": 32, "device": "cpu"} | changes
    return TextConfig(encoder=encoder, features=list(features), **changes)


def write_snapshot(folder, titles=TITLES, **columns):
    folder.mkdir(exist_ok=True)
    table = {
        "item_id": [f"i{row}" for row in range(len(titles))],
        "title": titles,
        "text": [""] * len(titles),
        "categories": pa.array([["film"]] * len(titles), pa.list_(pa.string())),
    }
    pq.write_table(pa.table(table | columns), folder / "items.parquet")
    return folder


def made(tmp_path, config, name="out", **snapshot):
    """(vectors, encoder.json, what was returned) of a catalogue."""
    folder = write_snapshot(tmp_path / "snapshot", **snapshot)
    returned = encode_items(folder, config, tmp_path / "cache", tmp_path / name)
    table = pq.read_table(tmp_path / name / "vectors.parquet")
    assert table["item_id"].to_pylist() == pq.read_table(folder / "items.parquet")[0].to_pylist()
    description = json.loads((tmp_path / name / "encoder.json").read_text())
    assert {key: value for key, value in returned.items() if key != "from_cache"} == description
    return np.stack(table["vector"].to_numpy()), description, returned


@pytest.mark.parametrize(
    ("features", "dims"),
    [
        (["encoder"], [DIM]),
        (["tfidf-svd"], [3]),
        (["tfidf-svd", "encoder"], [3, DIM]),
        (["encoder", "tfidf-svd"], [DIM, 3]),
    ],
)
def test_parts_lie_side_by_side_each_of_length_one(encoder, tmp_path, features, dims):
    vectors, description, _ = made(tmp_path, config(encoder, *features))
    assert [(part["name"], part["dim"]) for part in description["parts"]] == list(
        zip(features, dims, strict=True)
    )
    assert vectors.shape == (4, sum(dims)) == (description["count"], description["dim"])
    for part in np.split(vectors, np.cumsum(dims)[:-1], axis=1):
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, rtol=1e-5)
    assert (description["encoder"] == encoder) == ("encoder" in features)
    assert description["image"] is None


def test_without_features_items_have_rows_and_no_numbers(encoder, tmp_path):
    vectors, description, returned = made(tmp_path, config(encoder))
    assert vectors.shape == (4, 0)
    assert (description["parts"], description["dim"], returned["from_cache"]) == ([], 0, 0)
    assert not (tmp_path / "cache").exists()


def test_only_new_and_changed_items_are_encoded_again(encoder, tmp_path):
    first, _, returned = made(tmp_path, config(encoder, "encoder"))
    assert returned["from_cache"] == 0
    titles = ["alien", "alien three", "space", "comedy space", "new"]
    second, _, returned = made(tmp_path, config(encoder, "encoder"), titles=titles)
    assert returned["from_cache"] == 3
    np.testing.assert_array_equal(second[[0, 2, 3]], first[[0, 2, 3]])
    assert np.abs(second[1] - first[1]).max() > 1e-3


def test_the_same_items_give_the_same_artifact(encoder, tmp_path):
    """However much of it came from the cache: what is trained on it need not be trained again."""
    both = config(encoder, "encoder", "tfidf-svd")
    made(tmp_path, both, "first")
    _, _, returned = made(tmp_path, both, "second")
    assert returned["from_cache"] == 4
    assert sha256_tree(tmp_path / "first") == sha256_tree(tmp_path / "second")


def test_the_fitted_tfidf_lies_beside_its_vectors(encoder, tmp_path):
    vectors, _, _ = made(tmp_path, config(encoder, "encoder", "tfidf-svd"))
    fitted = TfidfSvd.load(tmp_path / "out")
    texts = [item_text(title, ["film"]) for title in TITLES]
    np.testing.assert_array_equal(fitted.transform(texts), vectors[:, DIM:])
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {
        ".json",
        ".parquet",
        ".safetensors",
    }


def test_images_ride_along(encoder, tmp_path):
    images = pa.array([[3, 4], None, [0, 2], [1, 0]], pa.list_(pa.float64()))
    with_images = config(encoder, "tfidf-svd", image_column="photo")
    _, description, _ = made(tmp_path, with_images, photo=images)
    column = pq.read_table(tmp_path / "out" / "vectors.parquet")["image"]
    np.testing.assert_allclose(column[0].as_py(), [0.6, 0.8], rtol=1e-6)
    assert column.to_pylist()[1:] == [None, [0, 1], [1, 0]]
    assert description["image"] == {"column": "photo", "dim": 2, "count": 3}


def test_a_snapshot_without_items_is_named(encoder, tmp_path):
    with pytest.raises(KuberecError, match="no items to encode in"):
        made(tmp_path, config(encoder, "encoder"), titles=[])
