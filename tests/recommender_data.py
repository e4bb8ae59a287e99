"""A small made-up world for the recommender's tests: users walk through a ring of items."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from recommender.files import write_json
from recommender.model import SequentialRecommender
from recommender.settings import ModelConfig

ITEMS = 30
TEXT_DIM = 8
TINY = ModelConfig(dim=16, layers=2, heads=2, feedforward=1, max_length=10, dropout=0.1)


def vocabulary() -> list[str]:
    return [f"i{index:02d}" for index in range(ITEMS)]


def random_model(config: ModelConfig = TINY, seed: int = 0) -> SequentialRecommender:
    """An untrained model whose every weight is far from its initial zeros."""
    torch.manual_seed(seed)
    model = SequentialRecommender(config, torch.randn(ITEMS + 1, TEXT_DIM), torch.randn(ITEMS + 1))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def write_windows(
    directory: Path, users: int = 48, seed: int = 0, with_times: bool = False
) -> Path:
    """features/ of users who step on by 1, sometimes 2, from a random start.

    With times events are minutes to days apart.
    """
    rng = np.random.default_rng(seed)
    items = vocabulary()
    rows = []
    for user in range(users):
        steps = rng.choice([1, 1, 1, 2], size=rng.integers(7, 25))
        walk = [items[place % ITEMS] for place in rng.integers(ITEMS) + np.cumsum(steps)]
        walk = list(dict.fromkeys(walk))
        for split, end in (("train", -2), ("valid", -2), ("test", -1)):
            target = None if split == "train" else walk[end]
            rows.append((f"u{user:03d}", split, walk[:end], target))
    columns = list(zip(*rows, strict=True))
    table = pa.table(
        {
            "user_id": pa.array(columns[0]),
            "cutoff": pa.array([0] * len(rows), pa.timestamp("us", tz="UTC")),
            "split": pa.array(columns[1]),
            "history": pa.array(columns[2], pa.list_(pa.string())),
            "target": pa.array(columns[3], pa.string()),
        }
    )
    if with_times:
        gaps = np.random.default_rng(seed + 1)
        walked = np.cumsum(60 * 10 ** gaps.uniform(0, 4, (users, 25)), axis=1)
        times_us = (1_700_000_000 + walked).astype(np.int64) * 1_000_000
        # The three rows of a user are one after the other, and begin with the same event.
        times = [times_us[row // 3, : len(each)] for row, each in enumerate(columns[2])]
        table = table.append_column("history_times", pa.array(times, pa.list_(pa.int64())))
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, directory / "windows.parquet")
    write_json(directory / "vocabulary.json", items)
    return directory


def write_vectors(directory: Path) -> Path:
    """item_vectors/ of the ring's items."""
    vectors = np.random.default_rng(1).normal(size=(ITEMS, TEXT_DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    directory.mkdir(parents=True, exist_ok=True)
    table = pa.table({"item_id": vocabulary(), "vector": list(vectors)})
    pq.write_table(table, directory / "vectors.parquet")
    write_json(directory / "encoder.json", {"parts": [{"name": "encoder", "dim": TEXT_DIM}]})
    return directory
