"""Windows and offline tables: the same rows on both engines, and by hand."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_windows import Event, assert_as_by_hand, read, write_events

from feature_repo.config import FeatureConfig
from feature_repo.offline.build import build_features
from ingestion.engines.open import open_engine
from recommender import schema
from recommender.files import read_json, sha256_tree

ITEMS = [f"i{number}" for number in range(9)]


def random_log(seed: int) -> list[Event]:
    """Ids beyond ASCII, ties that fill the microseconds up to the next event, events twice."""
    rng = random.Random(seed)
    users = [*(f"u{number}" for number in range(8)), "Ünal", "ünal", "ж", "🙂", "u 1"]
    times = [-1, 0, 1, 2, 3, 1_000_000, 1_000_001, 60_000_000]
    return [
        (rng.choice(users), rng.choice(ITEMS), rng.choice(times), place) for place in range(300)
    ]


@pytest.mark.parametrize(
    "content",
    [
        {"history_length": 5, "train_windows": "all", "train_overlap": 1},
        {"history_length": 12, "offline_rows": "all"},
    ],
)
def test_the_same_rows(content: dict, tmp_path: Path) -> None:
    log = random_log(seed=len(content))
    snapshot = write_events(tmp_path / "snapshot", log)
    described = [ITEMS, ITEMS, ITEMS, [["kind", item] for item in ITEMS]]
    items = pa.table(described, schema=schema.ITEMS)
    pq.write_table(items, schema.table_path(snapshot, "items"))
    vectors = pa.array([[0.5, -1.0]] * len(ITEMS), pa.list_(pa.float32(), 2))
    pq.write_table(
        pa.table({schema.ITEM_ID: ITEMS, "vector": vectors}), tmp_path / "vectors.parquet"
    )
    for name in ("duckdb", "spark"):
        engine = {"name": name, "spark_master": "local[2]"}
        config = FeatureConfig(k_core=3, **content, engine=engine)
        build_features(
            snapshot,
            tmp_path,
            config,
            tmp_path / name,
            open_engine=lambda work, config=config: open_engine(config.engine, work),
        )
        assert_as_by_hand(tmp_path / name, log, config)
    files = sha256_tree(tmp_path / "duckdb")
    assert "offline/item_features.parquet" in files
    assert files.keys() == sha256_tree(tmp_path / "spark").keys()
    for file in files:
        one, other = tmp_path / "duckdb" / file, tmp_path / "spark" / file
        read_any = read if file.endswith(".parquet") else read_json
        assert read_any(one) == read_any(other), file
