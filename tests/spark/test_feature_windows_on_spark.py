"""Windows and offline tables: the same rows on both engines, and by hand."""

import random
from pathlib import Path

import pytest
from small_windows import Event, assert_as_by_hand, read, write_events

from feature_repo.config import FeatureConfig
from feature_repo.offline.write import write_windows
from ingestion.engines.open import open_engine
from recommender.files import read_json

OUTPUTS = (
    *("windows.parquet", "offline/events.parquet", "offline/user_history.parquet"),
    *("vocabulary.json", "features.json", "offline/offline.json"),
)


def random_log(seed: int) -> list[Event]:
    """Ids beyond ASCII, ties that fill the microseconds up to the next event, events twice."""
    rng = random.Random(seed)
    users = [*(f"u{number}" for number in range(8)), "Ünal", "ünal", "ж", "🙂", "u 1"]
    times = [-1, 0, 1, 2, 3, 1_000_000, 1_000_001, 60_000_000]
    return [
        (rng.choice(users), f"i{rng.randrange(9)}", rng.choice(times), place)
        for place in range(300)
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
    for name in ("duckdb", "spark"):
        engine = {"name": name, "spark_master": "local[2]"}
        config = FeatureConfig(k_core=3, **content, engine=engine)
        work = tmp_path / f"{name}-work"
        work.mkdir()
        opened = open_engine(config.engine, work, "features.engine")
        try:
            write_windows(opened, snapshot, config, tmp_path / name)
        finally:
            opened.close()
        assert_as_by_hand(tmp_path / name, log, config)
    for output in OUTPUTS:
        one, other = tmp_path / "duckdb" / output, tmp_path / "spark" / output
        read_any = read if output.endswith(".parquet") else read_json
        assert read_any(one) == read_any(other), output
