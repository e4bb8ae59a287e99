"""bench-training: its arithmetic, its equal terms, its turns, and our side on little data."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.training import recbole_settings, samples_an_epoch, turns
from benchmarks.training_figures import finding, reached, samples_per_s, to_quality
from benchmarks.training_scaling import expected, largest
from benchmarks.training_sides import Judge, Side, write_data
from recommender.sequences import epoch_batches, load_windows
from recommender.settings import ModelConfig, TrainingConfig

ITEMS = 12


def curve(*points: tuple[float, float]) -> list[dict[str, Any]]:
    """(seconds, NDCG@10) each; half of the time is the processor's."""
    return [
        {"seconds": s, "processor_s": s / 2, "samples": int(100 * s), "ndcg@10": quality}
        for s, quality in points
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    lines = [
        f"{user} " + " ".join(str((user + k) % ITEMS + 1) for k in range(5 + user % 4))
        for user in range(1, 25)
    ]
    (folder / "sequences.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_time_to_a_quality_is_the_first_measurement_that_has_it() -> None:
    rows = curve((10, 0.05), (20, 0.11), (30, 0.09))
    assert reached(rows, 0.1) is rows[1]
    assert reached(rows, 0.2) is None
    assert samples_per_s(rows) == 100
    assert samples_per_s(rows, "processor_s") == 200


def test_the_ratio_is_of_the_median_seed() -> None:
    ours = [curve((10, 0.12)), curve((30, 0.12)), curve((20, 0.12))]
    found = to_quality(ours, curve((50, 0.05), (100, 0.13)), 0.1)
    assert found["seconds"] == {"ours": 20, "ours_all": [10, 30, 20], "peer": 100, "ratio": 5}
    assert found["processor_s"]["ratio"] == 5
    assert "20 s against 100 s, 5.0 times as fast" in finding(found)


def test_a_peer_that_was_stopped_gives_a_bound() -> None:
    found = to_quality([curve((10, 0.12))], curve((50, 0.05)), 0.1)
    assert not found["peer_reached"]
    assert "more than 5.0 times" in finding(found)
    assert "stopped before" in finding(found)


def test_a_seed_of_ours_that_fails_gives_no_ratio() -> None:
    found = to_quality([curve((10, 0.12)), curve((10, 0.01))], curve((50, 0.2)), 0.1)
    assert "seconds" not in found
    assert "not reached by ours" in finding(found)


def test_samples_are_the_next_items_of_an_epochs_windows() -> None:
    lengths = [1, 2, 5, 6, 7, 23]
    histories = [np.arange(1, n + 1) for n in lengths]
    batches = epoch_batches(histories, 5, 4, seed=0, epoch=0)
    found = sum(int((batch.following_BL > 0).sum()) for batch in batches)
    assert samples_an_epoch(lengths, 5) == found


def test_recbole_gets_the_same_model() -> None:
    model = ModelConfig(dim=32, layers=3, heads=4, feedforward=2, max_length=17, dropout=0.1)
    found = recbole_settings(model, 64, 1e-3)
    assert (found["hidden_size"], found["inner_size"]) == (32, 64)
    assert (found["n_layers"], found["n_heads"], found["MAX_ITEM_LIST_LENGTH"]) == (3, 4, 17)
    assert found["hidden_dropout_prob"] == found["attn_dropout_prob"] == 0.1


class Script:
    """A side whose measurements are known beforehand; `log` has whose turn it was."""

    def __init__(self, name: str, rows: list[dict[str, Any]], log: list[str]) -> None:
        self.name, self.coming, self.log = name, rows, log
        self.rows: list[dict[str, Any]] = []

    def advance(self) -> dict[str, Any]:
        self.log.append(self.name)
        self.rows.append(self.coming.pop(0))
        return self.rows[-1]

    def stop(self) -> None:
        self.log.append(f"end {self.name}")


def test_both_train_in_turns_until_they_are_good_or_out_of_time() -> None:
    log: list[str] = []
    peer = Script("peer", curve((10, 0.0), (20, 0.0), (30, 0.0), (40, 0.0)), log)
    one = Script("one", curve((15, 0.05), (30, 0.2)), log)
    two = Script("two", curve((15, 0.2)), log)
    done = turns(peer, [lambda: one, lambda: two], 0.1, 40)  # type: ignore[arg-type]
    assert done == [one, two]
    assert log == ["peer", "one", "peer", "one", "end one", "peer", "peer", "two", "end two"]


def test_the_judge_is_our_own_metric_whatever_the_order(data: Path, tmp_path: Path) -> None:
    write_data(data, tmp_path / "work")
    judge = Judge(tmp_path / "work" / "windows")
    users = np.array(judge.split.users[::-1])
    items = np.array(judge.vocabulary.items[::-1])
    targets = judge.split.targets[::-1]
    scores = np.zeros((len(users), len(items)), np.float32)
    for row, target in enumerate(targets):
        scores[row, items.tolist().index(judge.vocabulary.items[target - 1])] = 1
    named = np.array([judge.vocabulary.items[target - 1] for target in targets])
    out = tmp_path / "scores.npz"
    exported = {"hidden": scores, "items": np.eye(len(items), dtype=np.float32)}
    names = {"user_ids": users, "item_ids": items, "target_ids": named}
    np.savez(out, **exported, **names)
    assert judge(out)["ndcg@10"] == 1
    np.savez(out, **exported, **(names | {"target_ids": named[::-1]}))
    with pytest.raises(ValueError, match="holds out other items"):
        judge(out)


def test_recbole_reads_each_event_once_in_its_order(data: Path, tmp_path: Path) -> None:
    write_data(data, tmp_path / "work")
    lines = (tmp_path / "work" / "sequences" / "sequences.inter").read_text().splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    own = [item for user, item, _ in sorted(rows, key=lambda row: int(row[2])) if user == "3"]
    train = load_windows(tmp_path / "work" / "windows")["train"]
    row = train.users.index("3")
    # Their leave-one-out takes off the last two, which is what our windows lack.
    vocabulary = Judge(tmp_path / "work" / "windows").vocabulary
    assert vocabulary.encode(own[:-2]).tolist() == train.histories[row].tolist()


def test_our_side_trains_and_is_measured(data: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    write_data(data, work)
    model = ModelConfig(dim=8, layers=1, max_length=6, dropout=0.0)
    training = TrainingConfig(epochs=3, patience=3, batch_size=8, threads=1, warmup_epochs=0)
    settings = {
        "model": model.model_dump(),
        "training": training.model_dump(),
        "name": "model",
        "samples_an_epoch": 7,
    }
    command = [sys.executable, "-m", "benchmarks.training_worker", str(work), json.dumps(settings)]
    with (tmp_path / "log").open("wb") as log:
        side = Side("ours", command, work, log)
        first, second = side.advance(), side.advance()
        side.stop()
    assert side.process.returncode == 0
    assert (first["samples"], second["samples"]) == (7, 14)
    assert 0 < first["seconds"] < second["seconds"]
    assert 0 < first["processor_s"] <= second["processor_s"]
    assert 0 <= second["ndcg@10"] <= 1
    assert second["peak_mib"] > 50
    assert (work / "model" / "model.safetensors").is_file()


def test_what_was_not_run_is_drawn_on_in_a_line() -> None:
    rows = [
        {
            "items": items,
            "loss": "softmax",
            "seconds_a_step": 1 + items,
            "processor_s_a_step": 2.0 * items,
            "peak_mib": 500 + items / 500,
        }
        for items in (10**4, 10**5, 10**6)
    ]
    assert expected(rows[:1], 10**7) is None
    found = expected(rows, 10**7)
    assert found is not None
    assert found["expected"]
    assert found["seconds_a_step"] == pytest.approx(1 + 10**7)
    assert found["peak_mib"] == pytest.approx(20500)
    assert largest(rows, 10_500) == pytest.approx(5_000_000, abs=2)
