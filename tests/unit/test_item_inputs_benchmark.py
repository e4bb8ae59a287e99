"""The comparison of item inputs: its splits, its texts and its table."""

import json

import pyarrow.parquet as pq

from benchmarks.item_inputs import table, write_snapshot, write_windows
from recommender.sequences import load_windows


def test_the_last_two_items_are_held_out(tmp_path):
    (tmp_path / "sequences.txt").write_text("7 10 2 3 1\n8 3 2 1\n")
    splits = load_windows(write_windows(tmp_path, tmp_path / "windows"))
    assert splits["train"].users == ["7", "8"]
    # The vocabulary is 1, 2, 3, 10: item 10 has index 4.
    assert [history.tolist() for history in splits["train"].histories] == [[4, 2], [3]]
    assert [history.tolist() for history in splits["valid"].histories] == [[4, 2], [3]]
    assert splits["valid"].targets.tolist() == [3, 2]
    assert [history.tolist() for history in splits["test"].histories] == [[4, 2, 3], [3, 2]]
    assert splits["test"].targets.tolist() == [1, 1]


def test_items_have_title_year_and_categories(tmp_path):
    rows = [
        {"id": 1, "title": "Alien", "year": "1979", "categories": ["Horror"]},
        {"id": 2, "title": "Soap", "categories": []},
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    folder = write_snapshot(tmp_path, tmp_path / "snapshot")
    assert pq.read_table(folder / "items.parquet").to_pylist() == [
        {"item_id": "1", "title": "Alien", "text": "Alien (1979)", "categories": ["Horror"]},
        {"item_id": "2", "title": "Soap", "text": "", "categories": []},
    ]


def test_the_table_gives_a_mean_and_what_it_is_the_mean_of():
    def run(name, seed, value):
        figures = {"ndcg@10": value, "hr@10": 2 * value, "coverage@10": 0.5}
        return {"input": name, "seed": seed, "valid": figures, "test": figures}

    runs = [run("none", 1, 0.1), run("none", 2, 0.2), run("both", 1, 0.3)]
    made = {name: {"dim": dim, "seconds": 2.0} for name, dim in (("none", 0), ("both", 512))}
    rows = table(runs, made).splitlines()
    assert len(rows) == 4
    assert rows[2].startswith(
        "| none | 0 | 2.0 s | 0.1500 (0.1000–0.2000) | 0.1500 (0.1000–0.2000) | 0.3000 (0.2000"
    )
    assert rows[3] == "| both | 512 | 2.0 s | 0.3000 | 0.3000 | 0.6000 | 0.5000 |"
