"""The benchmark files of the field as a run's artifacts: sequences.txt and items.jsonl of a folder.

`sequences.txt` has `user item item ...` in time order, `items.jsonl` id, title, categories and, if
known, year or asin: MovieLens-1M as SASRec published it, Amazon Beauty as S3-Rec did. Protocol of
both: leave-one-out, the last event is the test's, the one before it the validation's.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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
        tie_seed: shuffle what may be of one day (`shuffled_ties`) before anything is held out.
    """
    sequences = read_sequences(data)
    if tie_seed is not None:
        asins = {str(row["id"]): row["asin"] for row in read_items(data)}
        rng = np.random.default_rng(tie_seed)
        sequences = {user: shuffled_ties(own, asins, rng) for user, own in sequences.items()}
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


def shuffled_ties(
    items: Sequence[str], asins: dict[str, str], rng: np.random.Generator
) -> list[str]:
    """The sequence with the order within each ascending run of ASINs left to chance.

    The Amazon files know the day of an event alone, and within a day list by ASIN; which events
    share a day the published sequences no longer say. Each day is within one ascending run, so
    that shuffling runs leaves nothing of that order; it also shuffles days that happen to ascend,
    and is therefore harder than shuffling days.
    """
    runs: list[list[str]] = []
    for item in items:
        if runs and asins[runs[-1][-1]] < asins[item]:
            runs[-1].append(item)
        else:
            runs.append([item])
    return [run[place] for run in runs for place in rng.permutation(len(run))]
