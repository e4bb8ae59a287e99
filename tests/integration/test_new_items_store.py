"""Items that joined a version, in a real feature store: offline, online, and by their titles."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feature_stores import HISTORIES, sqlite_store

from feature_repo.config import EVENT_TIME
from feature_repo.materialize.home import register_version
from feature_repo.materialize.new_items import add_items
from feature_repo.store import open_store, service_name, store_folder, versions
from feature_repo.titles import item_titles
from recommender.files import write_json


def items(ids: list[str]) -> tuple[pa.Table, pa.Table]:
    """Described, and with vectors, in another order."""
    described = {
        "item_id": ids,
        "title": [f"title of {item}" for item in ids],
        "categories": [["a", "ü"] for _ in ids],
    }
    vectors = {"item_id": ids[::-1], "vector": [[float(len(item)), 1.0] for item in ids[::-1]]}
    return pa.table(described), pa.table(vectors)


def test_new_items_are_found_everywhere_and_added_once(tmp_path: Path) -> None:
    assert add_items(tmp_path, *items(["n1"])) == 0  # no store, nothing to add to
    folder = sqlite_store(store_folder(tmp_path), HISTORIES, ["v1"])
    write_json(folder / "versions.json", ["v1"])
    described, vectors = items(["i1", "i2"])
    known = described.append_column("popularity", pa.array([3, 1]))
    known = known.append_column("vector", vectors["vector"].cast(pa.list_(pa.float32())))
    moment = pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 2, pa.timestamp("us", tz="UTC"))
    path = folder / "offline" / "item_features.parquet"
    pq.write_table(known.append_column(EVENT_TIME, moment), path)

    from feature_repo.registered import definitions

    open_store(folder).apply(list(definitions(folder / "offline")))
    register_version(tmp_path, "v2")
    assert versions(folder) == ["v1", "v2"]
    assert add_items(tmp_path, *items(["i1", "new", "newer"])) == 2
    assert add_items(tmp_path, *items(["i1", "new", "newer"])) == 0

    assert pq.read_table(path)["item_id"].to_pylist() == ["i1", "i2", "new", "newer"]
    assert item_titles(tmp_path, ["new", "i2"]) == {"new": "title of new", "i2": "title of i2"}
    store = open_store(folder)
    assert store.get_feature_service(service_name("v2")).tags["model_version"] == "v2"
    names = [f"item_features:{name}" for name in ("title", "popularity", "vector", "categories")]
    found = store.get_online_features(names, [{"item_id": "newer"}, {"item_id": "i1"}]).to_dict()
    assert found["title"] == ["title of newer", None]  # i1 was never materialised
    assert found["popularity"][0] == 0
    assert found["vector"][0] == [5.0, 1.0]
    assert found["categories"][0] == ["a", "ü"]
