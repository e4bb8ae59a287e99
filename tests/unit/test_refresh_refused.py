"""Items that cannot join a version, and files that are not items: what is said, and what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recommender_data import TEXT_DIM, random_model
from tiny_version import catalogue, write_tiny_version

from ingestion.sources import ItemsSource
from pipelines.items_source import items_of_file
from recommender.errors import KuberecError
from recommender.files import write_json
from recommender.new_items import fit_item_map
from serving.item_map import load_item_map
from serving.refresh import known_items, new_rows
from serving.version import ModelVersion, load_version

PART = {"name": "encoder", "dim": TEXT_DIM, "encoder": "MiniLM", "fingerprint": "abc"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    folder = tmp_path_factory.mktemp("tiny") / "v1"
    return load_version(write_tiny_version(folder, catalogue(), "v1"))


def test_a_version_of_before_says_what_to_run(tiny: ModelVersion) -> None:
    assert known_items(tiny) == catalogue()
    with pytest.raises(KuberecError, match=r"v1 has no new_items.json.*`kuberec run CONFIG`"):
        load_item_map(tiny, {"text": {"features": ["encoder"]}})
    with pytest.raises(KuberecError, match=r"knows items by id alone.*text.features: encoder"):
        load_item_map(tiny, {"text": {"features": []}})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fingerprint": "xyz"}, r"fingerprint xyz, not abc.*'MiniLM' back as it was, or train"),
        ({"dim": 5}, "dim 5, not 8"),
    ],
)
def test_vectors_of_another_encoder_are_refused(
    tiny: ModelVersion, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    found = fit_item_map(random_model(), [PART])
    assert found is not None
    table = {"item_id": ["n1"], "vector": [np.zeros(TEXT_DIM, np.float32)]}
    pq.write_table(pa.table(table), tmp_path / "vectors.parquet")
    write_json(tmp_path / "encoder.json", {"parts": [PART | change]})
    with pytest.raises(KuberecError, match=says):
        new_rows(found, tmp_path, set(catalogue()), tmp_path / "ranker.onnx")


SOURCE = ItemsSource.model_validate(
    {
        "path": "lib/u.item",
        "package": "recbole",
        "format": "tsv",
        "quote": '"',
        "columns": {"item_id": "id", "title": "name"},
        "title_article": True,
        "text": "{title}!",
    }
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv", "csv"), ("a.jsonl.gz", "jsonl"), ("a.parquet", "parquet"), ("a.item", "tsv")],
)
def test_a_file_is_read_by_the_sources_mapping(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).touch()
    found = items_of_file(SOURCE, tmp_path / name)
    assert (found.format, found.path, found.package) == (kind, str(tmp_path / name), None)
    assert (found.columns, found.text, found.title_article) == (SOURCE.columns, "{title}!", True)
    assert found.quote == ('"' if kind == "tsv" else None)


def test_a_file_that_cannot_be_one(tmp_path: Path) -> None:
    with pytest.raises(KuberecError, match=r"--items '.*none.csv': no such file"):
        items_of_file(SOURCE, tmp_path / "none.csv")
    (tmp_path / "items.xlsx").touch()
    lake = SOURCE.model_copy(update={"format": "delta", "quote": None, "package": None})
    with pytest.raises(KuberecError, match=r"allowed: \.csv, \.tsv, \.jsonl, \.parquet"):
        items_of_file(lake, tmp_path / "items.xlsx")
