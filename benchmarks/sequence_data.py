"""The benchmark files of the field as a run's artifacts: sequences.txt and items.jsonl of a folder.

`sequences.txt` has `user item item ...` in time order, `items.jsonl` id, title, categories and, if
known, year or asin: MovieLens-1M as SASRec published it, Amazon Beauty as S3-Rec did. Protocol of
both: leave-one-out, the last event is the test's, the one before it the validation's.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recommender.evaluation.ties import ascending_runs, shuffle_within
from recommender.files import write_json


def read_items(data: Path) -> list[dict[str, Any]]:
    """The rows of items.jsonl."""
    return [json.loads(line) for line in (data / "items.jsonl").read_text().splitlines()]


def read_sequences(data: Path) -> dict[str, list[str]]:
    """Each user's items, oldest first."""
    lines = (line.split() for line in (data / "sequences.txt").read_text().splitlines())
    return {user: items for user, *items in lines}


def write_snapshot(data: Path, folder: Path) -> Path:
    """items.parquet of `items.jsonl`."""
    rows = read_items(data)
    table = {
        "item_id": [str(row["id"]) for row in rows],
        "title": [row["title"] for row in rows],
        "text": [f"{row['title']} ({row['year']})" if row.get("year") else "" for row in rows],
        "categories": pa.array([row["categories"] for row in rows], pa.list_(pa.string())),
    }
    folder.mkdir()
    pq.write_table(pa.table(table), folder / "items.parquet")
    return folder


def write_windows(data: Path, folder: Path, tie_seed: int | None = None) -> Path:
    """The three splits of `sequences.txt`: all but the last two, then each of those.

    Args:
        tie_seed: shuffle what may be of one day, which is every ascending run of ASINs, before
            anything is held out.
    """
    sequences = read_sequences(data)
    if tie_seed is not None:
        # The Amazon files know the day of an event alone, and within a day list by ASIN.
        asins = {str(row["id"]): row["asin"] for row in read_items(data)}
        runs = ascending_runs([[asins[item] for item in own] for own in sequences.values()])
        arrays = [np.array(own) for own in sequences.values()]
        shuffled = shuffle_within(arrays, runs, np.random.default_rng(tie_seed))
        sequences = {user: own.tolist() for user, own in zip(sequences, shuffled, strict=True)}
    rows: list[tuple[str, str, list[str], str | None]] = []
    for user, history in sequences.items():
        rows.append((user, "train", history[:-2], None))
        rows.append((user, "valid", history[:-2], history[-2]))
        rows.append((user, "test", history[:-1], history[-1]))
    columns = dict(
        zip(("user_id", "split", "history", "target"), zip(*rows, strict=True), strict=True)
    )
    folder.mkdir()
    pq.write_table(
        pa.table({k: pa.array(v) for k, v in columns.items()}), folder / "windows.parquet"
    )
    vocabulary = sorted({item for own in sequences.values() for item in own}, key=int)
    write_json(folder / "vocabulary.json", vocabulary)
    return folder
