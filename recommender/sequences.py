"""Histories as indices: vocabulary, training windows and batches.

Shapes: B batch, L length. Index 0 is padding and every unknown item; padding is on the left, so
that the latest item is always at the last position, but in training's batches. Times of events are
seconds since 1970, int64, 0 where unknown and for padding.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recommender.errors import KuberecError
from recommender.files import read_json, write_json
from recommender.settings import ModelConfig

SPLITS = ("train", "valid", "test")
COLUMNS = {"user_id", "split", "history", "target"}
# Columns that may lack: events that the user's row before ends with, and each event's time, µs.
OVERLAP, TIMES = "overlap", "history_times"


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

    def knows(self, history: Sequence[str]) -> np.ndarray:
        """Which of the items `encode` keeps, bool [len(history)]."""
        return np.fromiter((item in self._index for item in history), bool, len(history))

    def save(self, path: Path) -> None:
        write_json(path, self.items)

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        return cls(read_json(path))


@dataclass(frozen=True)
class Split:
    """One split's rows: `histories` oldest first and unpadded, `targets` 0 where there is none.

    `times`, of each history's events, are None where the windows have none.
    """

    users: list[str]
    histories: list[np.ndarray]
    targets: np.ndarray
    times: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def times_for(self, config: ModelConfig) -> list[np.ndarray] | None:
        """The times, if a model of `config` reads any.

        Raises:
            KuberecError: it does, and the windows have none.
        """
        if config.time == "none":
            return None
        if self.times is None:
            raise KuberecError(
                f"model.time is {config.time}, but windows.parquet has no column '{TIMES}': build "
                "the features again (the step build-features writes it), or set model.time: none"
            )
        return self.times


class Batch(NamedTuple):
    """Right-padded windows and what follows each of their items: int64 [B, <= length]."""

    history_BL: Tensor
    following_BL: Tensor  # 0 = nothing to learn
    times_BL: Tensor | None = None


def load_windows(windows_dir: Path, vocabulary: Vocabulary | None = None) -> dict[str, Split]:
    """The splits of windows.parquet, as indices of `vocabulary` (default: its vocabulary.json).

    A user's training windows are put together, oldest first, each event once: one row a user in
    every split. Training cuts it up anew every epoch (`epoch_windows`).

    Raises:
        KuberecError: a column, a split or a target is missing or unknown, or times are not one an
            event.
    """
    windows_dir = Path(windows_dir)
    vocabulary = vocabulary or Vocabulary.load(windows_dir / "vocabulary.json")
    table = pq.read_table(windows_dir / "windows.parquet")
    if missing := COLUMNS - set(table.column_names):
        raise KuberecError(f"windows.parquet in '{windows_dir}' lacks columns {sorted(missing)}")
    timed = TIMES in table.column_names
    table = table.sort_by("user_id")  # stable: a user's in their order
    rows = table.select(sorted(COLUMNS | ({OVERLAP} & set(table.column_names)))).to_pylist()
    if timed:
        _add_times(rows, table[TIMES].combine_chunks())
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
        times = [row[TIMES][vocabulary.knows(row["history"] or ())] for row in chosen if timed]
        users = [row["user_id"] for row in chosen]
        splits[name] = Split(users, histories, targets, times if timed else None)
    return splits


def _add_times(rows: list[dict[str, Any]], column: Any) -> None:
    """Each row's times in seconds; `column`: lists of µs, as the table has them."""
    micros, ends = column.values.to_numpy(), column.offsets.to_numpy()
    for row, start, end in zip(rows, ends, ends[1:], strict=False):
        events = len(row["history"] or ())
        if end - start != events:
            raise KuberecError(
                f"windows.parquet, user '{row['user_id']}', split '{row['split']}': "
                f"{events} events, but {end - start} times in '{TIMES}': build the features again"
            )
        row[TIMES] = micros[start:end] // 1_000_000


def _put_together(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a user: the histories of consecutive windows, without what they share."""
    users: list[dict[str, Any]] = []
    for row in rows:
        if users and users[-1]["user_id"] == row["user_id"]:
            new = slice(row.get(OVERLAP) or 0, None)
            users[-1]["history"] += row["history"][new]
            if TIMES in row:
                users[-1][TIMES] = np.concatenate([users[-1][TIMES], row[TIMES][new]])
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
    """The latest `length` entries of each history, left-padded with 0: int64 [B, length].

    Their times are padded the same way.
    """
    padded = np.zeros((len(histories), length), dtype=np.int64)
    for row, history in enumerate(histories):
        latest = history[-length:]
        padded[row, length - len(latest) :] = latest
    return padded


def pad_right(windows: Sequence[np.ndarray]) -> np.ndarray:
    """Windows [R, n] whole, each followed by 0 up to the longest: int64 [R, B, L]."""
    longest = max(window.shape[1] for window in windows)
    padded = np.zeros((windows[0].shape[0], len(windows), longest), dtype=np.int64)
    for row, window in enumerate(windows):
        padded[:, row, : window.shape[1]] = window
    return padded


def epoch_windows(
    histories: Sequence[np.ndarray], length: int, rng: np.random.Generator
) -> list[tuple[int, slice]]:
    """One epoch's windows of `length` + 1 items: short histories whole, long ones at random places.

    A history of n items gives ceil(n / (length + 1)) windows, so that each item is predicted
    about once an epoch, from contexts that differ between epochs. Fewer than 2 items give none.

    Returns:
        Number and part of a history for each window.
    """
    windows = []
    for row, history in enumerate(histories):
        count = -(-len(history) // (length + 1))
        if count == 1 and len(history) > 1:
            windows.append((row, slice(0, len(history))))
        elif count > 1:
            ends = rng.integers(length + 1, len(history), size=count, endpoint=True).tolist()
            windows.extend((row, slice(end - length - 1, end)) for end in ends)
    return windows


def epoch_batches(
    histories: Sequence[np.ndarray],
    length: int,
    batch_size: int,
    seed: int,
    epoch: int,
    reversed_share: float = 0.0,
    dropped_share: float = 0.0,
    times: Sequence[np.ndarray] | None = None,
) -> list[Batch]:
    """The batches of one epoch, with times where `times` are given.

    Padding is on the right here, where being causal hides it (`encode(right_padded=True)`).
    The same for the same seed and epoch, whatever ran before: a resumed run sees what it would
    have seen. Windows of a like length share a batch, so that little of it is padding. A share
    of the windows is read backwards, with their times: neighbours in time then predict each other
    both ways, and the gaps between them stay. A share of each window's items can be left out,
    which makes histories that nobody has.
    """
    rng = np.random.default_rng([seed, epoch])
    tracks = [histories] if times is None else [histories, times]
    windows = []
    for row, part in epoch_windows(histories, length, rng):
        window = np.stack([track[row][part] for track in tracks])
        if dropped_share:
            window = window[:, rng.random(window.shape[1]) >= dropped_share]
        if window.shape[1] > 1:
            windows.append(window[:, ::-1] if rng.random() < reversed_share else window)
    groups: list[list[np.ndarray]] = []
    for chunk in _chunks([windows[i] for i in rng.permutation(len(windows))], 8 * batch_size):
        groups.extend(_chunks(sorted(chunk, key=lambda window: window.shape[1]), batch_size))
    batches = []
    for index in rng.permutation(len(groups)):
        padded = torch.from_numpy(pad_right(groups[index]))
        when_BL = None if times is None else padded[1, :, :-1]
        batches.append(Batch(padded[0, :, :-1], padded[0, :, 1:], when_BL))
    return batches


def _chunks(rows: list[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
