"""Histories as indices: vocabulary, training windows and batches.

Shapes: B batch, L length. Index 0 is padding and every unknown item; padding is on the left, so
that the latest item is always at the last position, but in training's batches.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recommender.errors import KuberecError
from recommender.files import read_json, write_json

SPLITS = ("train", "valid", "test")
COLUMNS = {"user_id", "split", "history", "target"}
OVERLAP = "overlap"  # a column that may lack: events that the user's row before ends with


class Vocabulary:
    """Item ids ↔ indices 1..N, in the order given."""

    def __init__(self, items: Iterable[str]) -> None:
        self.items = list(items)
        self._index = {item: index for index, item in enumerate(self.items, start=1)}
        if len(self._index) != len(self.items):
            raise ValueError("a vocabulary cannot hold an item twice")

    def __len__(self) -> int:
        return len(self.items)

    def index(self, item: str | None) -> int:
        """1..N, or 0 for an unknown item."""
        return self._index.get(item, 0) if item is not None else 0

    def encode(self, history: Iterable[str]) -> np.ndarray:
        """Indices of the known items, in order, int64; unknown ones are skipped."""
        known = (self._index.get(item, 0) for item in history)
        return np.array([index for index in known if index], dtype=np.int64)

    def save(self, path: Path) -> None:
        write_json(path, self.items)

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        return cls(read_json(path))


@dataclass(frozen=True)
class Split:
    """One split's rows: `histories` oldest first and unpadded, `targets` 0 where there is none."""

    users: list[str]
    histories: list[np.ndarray]
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


def load_windows(windows_dir: Path, vocabulary: Vocabulary | None = None) -> dict[str, Split]:
    """The splits of windows.parquet, as indices of `vocabulary` (default: its vocabulary.json).

    A user's training windows are put together, oldest first, each event once: one row a user in
    every split. Training cuts it up anew every epoch (`epoch_windows`).

    Raises:
        KuberecError: a column, a split or a target is missing or unknown.
    """
    windows_dir = Path(windows_dir)
    vocabulary = vocabulary or Vocabulary.load(windows_dir / "vocabulary.json")
    table = pq.read_table(windows_dir / "windows.parquet")
    if missing := COLUMNS - set(table.column_names):
        raise KuberecError(f"windows.parquet in '{windows_dir}' lacks columns {sorted(missing)}")
    columns = sorted(COLUMNS | ({OVERLAP} & set(table.column_names)))
    rows = table.select(columns).sort_by("user_id").to_pylist()  # stable: a user's in their order
    splits = {}
    for name in SPLITS:
        chosen = [row for row in rows if row["split"] == name]
        if not chosen:
            raise KuberecError(f"windows.parquet in '{windows_dir}' has no rows of split '{name}'")
        if name == "train":
            chosen = _put_together(chosen)
        targets = np.array([vocabulary.index(row["target"]) for row in chosen], dtype=np.int64)
        if name != "train" and not targets.all():
            unknown = chosen[int(np.argmin(targets))]["target"]
            raise KuberecError(f"the target '{unknown}' of split '{name}' is not in the vocabulary")
        histories = [vocabulary.encode(row["history"] or ()) for row in chosen]
        splits[name] = Split([row["user_id"] for row in chosen], histories, targets)
    return splits


def _put_together(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a user: the histories of consecutive windows, without what they share."""
    users: list[dict[str, Any]] = []
    for row in rows:
        if users and users[-1]["user_id"] == row["user_id"]:
            users[-1]["history"] += row["history"][row.get(OVERLAP) or 0 :]
        else:
            users.append(row | {"history": list(row["history"] or ())})
    return users


def item_counts(histories: Iterable[np.ndarray], items: int) -> np.ndarray:
    """How often each index occurs, int64 [items + 1]; entry 0 is 0."""
    counts = np.zeros(items + 1, dtype=np.int64)
    for history in histories:
        np.add.at(counts, history, 1)
    counts[0] = 0
    return counts


def log_popularity(counts: np.ndarray) -> np.ndarray:
    """Logarithm of each item's share of events, add-one smoothed, float32 [N+1]; entry 0 is 0."""
    smoothed = counts[1:] + 1.0
    return np.concatenate([[0.0], np.log(smoothed / smoothed.sum())]).astype(np.float32)


def pad(histories: Sequence[np.ndarray], length: int) -> np.ndarray:
    """The latest `length` entries of each history, left-padded with 0: int64 [B, length]."""
    padded = np.zeros((len(histories), length), dtype=np.int64)
    for row, history in enumerate(histories):
        latest = history[-length:]
        padded[row, length - len(latest) :] = latest
    return padded


def pad_right(windows: Sequence[np.ndarray]) -> np.ndarray:
    """The windows whole, each followed by 0 up to the longest: int64 [B, L]."""
    padded = np.zeros((len(windows), max(map(len, windows))), dtype=np.int64)
    for row, window in enumerate(windows):
        padded[row, : len(window)] = window
    return padded


def epoch_windows(
    histories: Sequence[np.ndarray], length: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """One epoch's windows of `length` + 1 items: short histories whole, long ones at random places.

    A history of n items gives ceil(n / (length + 1)) windows, so that each item is predicted
    about once an epoch, from contexts that differ between epochs. Fewer than 2 items give none.
    """
    windows = []
    for history in histories:
        count = -(-len(history) // (length + 1))
        if count == 1 and len(history) > 1:
            windows.append(history)
        elif count > 1:
            ends = rng.integers(length + 1, len(history), size=count, endpoint=True)
            windows.extend(history[end - length - 1 : end] for end in ends)
    return windows


def epoch_batches(
    histories: Sequence[np.ndarray],
    length: int,
    batch_size: int,
    seed: int,
    epoch: int,
    reversed_share: float = 0.0,
    dropped_share: float = 0.0,
) -> list[tuple[Tensor, Tensor]]:
    """The batches of one epoch: (inputs, next items) int64 [B, <= length], 0 = nothing to learn.

    Padding is on the right here, where being causal hides it (`encode(right_padded=True)`).
    The same for the same seed and epoch, whatever ran before: a resumed run sees what it would
    have seen. Windows of a like length share a batch, so that little of it is padding. A share
    of the windows is read backwards: neighbours in time then predict each other both ways. A
    share of each window's items can be left out, which makes histories that nobody has.
    """
    rng = np.random.default_rng([seed, epoch])
    windows = []
    for window in epoch_windows(histories, length, rng):
        if dropped_share:
            window = window[rng.random(len(window)) >= dropped_share]
        if len(window) > 1:
            windows.append(window[::-1] if rng.random() < reversed_share else window)
    groups: list[list[np.ndarray]] = []
    for chunk in _chunks([windows[i] for i in rng.permutation(len(windows))], 8 * batch_size):
        groups.extend(_chunks(sorted(chunk, key=len), batch_size))
    batches = []
    for index in rng.permutation(len(groups)):
        padded = torch.from_numpy(pad_right(groups[index]))
        batches.append((padded[:, :-1], padded[:, 1:]))
    return batches


def _chunks(rows: list[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
