"""The windows benchmark: both systems build the same rows, and the k-core has something to drop."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.feature_events import write_snapshot
from benchmarks.feature_windows import OUTPUTS, content, findings
from benchmarks.feature_windows_worker import by_hand, kuberec
from feature_repo.config import FeatureConfig
from recommender.files import read_json


def test_sql_by_hand_builds_the_same_rows(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    write_snapshot(snapshot, 20_000, seed=1)
    config = FeatureConfig(history_length=40)
    for system in (kuberec, by_hand):
        system(snapshot, tmp_path / system.__name__, config)
    ours, theirs = (tmp_path / system.__name__ for system in (kuberec, by_hand))
    assert content(ours) == content(theirs)
    names = [row["item_id"] for row in read_json(theirs / "vocabulary.json")]
    assert read_json(ours / "vocabulary.json") == names
    counts = read_json(ours / "features.json")["counts"]
    assert 0 < counts["users"] < counts["all_users"]
    assert 0 < counts["events"] < counts["all_events"] < 20_000
    table = pq.read_table(ours / OUTPUTS[1])
    assert max(map(len, table["history"].to_pylist())) == 40


def test_another_row_is_noticed(tmp_path: Path) -> None:
    for name, item in (("one", "a"), ("other", "b")):
        for output in OUTPUTS:
            path = tmp_path / name / output
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = {"item_id": [item, "c"], "rank": [0, 1]}
            pq.write_table(pa.table(columns), path)
    assert content(tmp_path / "one") != content(tmp_path / "other")


def test_findings_are_ratios() -> None:
    def figure(events: int, seconds: float, by_hand_s: float) -> dict:
        rounds = {
            name: [{"seconds": time, "processor_s": 2 * time, "peak_mib": 1.0}]
            for name, time in (("kuberec", seconds), ("by hand", by_hand_s))
        }
        return {"events": events, "rounds": rounds}

    small, large, growth = findings([figure(1000, 3, 2), figure(10_000, 18, 24)])
    assert "1,000 events: 1.50 times the time of SQL by hand (aim: at most 2)" in small
    assert "10,000 events: 0.75 times" in large
    assert growth == "from 1,000 to 10,000 events: 6.0 times the time for 10 times the rows"
