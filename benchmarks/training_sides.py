"""The two sides of the training benchmark as processes that train in turns, never both at once.

A side says JSON lines and hears words: "ready" once it can begin, "measure" with its clocks at
every point where it can be judged, and after the word "stop" RecBole's "finished"; "go" sends it
on. While one trains the other waits for its word, so that what else the machine does meets both.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.sequence_data import read_sequences, write_windows
from recommender.evaluation.metrics import mask_history, rank_metrics, target_ranks
from recommender.files import read_json
from recommender.sequences import Vocabulary, load_windows

Message = dict[str, Any]
INTER = "user_id:token\titem_id:token\ttimestamp:float\n"


def write_data(data: Path, work: Path) -> None:
    """sequences.txt for both: our windows (ids alone, no texts), and RecBole's atomic file.

    RecBole's time is an event's place in its sequence: the order, and so its leave-one-out split,
    is the same.
    """
    work.mkdir(parents=True, exist_ok=True)
    windows = write_windows(data, work / "windows")
    items = read_json(windows / "vocabulary.json")
    (work / "vectors").mkdir()
    nothing = pa.array([[]] * len(items), pa.list_(pa.float32()))
    pq.write_table(
        pa.table({"item_id": items, "vector": nothing}), work / "vectors" / "vectors.parquet"
    )
    (work / "sequences").mkdir()
    with (work / "sequences" / "sequences.inter").open("w") as stream:
        stream.write(INTER)
        for user, own in read_sequences(data).items():
            stream.writelines(f"{user}\t{item}\t{place}\n" for place, item in enumerate(own))


class Judge:
    """Validation of exported scores, by the code that judges our own models."""

    def __init__(self, windows: Path) -> None:
        self.vocabulary = Vocabulary.load(windows / "vocabulary.json")
        split = load_windows(windows, self.vocabulary)["valid"]
        self.rows = {user: row for row, user in enumerate(split.users)}
        self.split = split

    def __call__(self, path: Path) -> dict[str, float]:
        """NDCG@10 and HR@10 masked as our protocol has it, and NDCG@10 with nothing masked.

        Raises:
            ValueError: the other side holds out other users, items or targets than we do.
        """
        with np.load(path) as found:
            rows = [self.rows[user] for user in found["user_ids"].tolist()]
            columns = np.array([self.vocabulary.index(item) for item in found["item_ids"].tolist()])
            targets = np.array([self.vocabulary.index(item) for item in found["target_ids"]])
            if sorted(rows) != list(range(len(self.split))):
                raise ValueError("it does not validate each user once")
            if sorted(columns) != list(range(1, len(self.vocabulary) + 1)):
                raise ValueError("it does not score each item once")
            if not np.array_equal(targets, self.split.targets[rows]):
                raise ValueError("it holds out other items")
            scores_BN = np.full((len(rows), len(columns) + 1), -np.inf, np.float32)
            scores_BN[:, columns] = found["hidden"] @ found["items"].T
        histories = [self.split.histories[row] for row in rows]
        masked = rank_metrics(
            target_ranks(mask_history(scores_BN, histories, targets), targets), (10,)
        )
        unmasked = rank_metrics(target_ranks(scores_BN, targets), (10,))
        return masked | {"unmasked_ndcg@10": unmasked["ndcg@10"]}


class Side:
    """One side's process, and what was measured of it so far.

    Attributes:
        rows: of each measurement steps, samples, seconds, processor_s, peak_mib, ndcg@10, hr@10.
    """

    def __init__(
        self, name: str, command: list[str], work: Path, log: IO[bytes], judge: Judge | None = None
    ) -> None:
        self.name, self.work, self.judge = name, work, judge
        self.rows: list[Message] = []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        self.ready = self._hear()

    def advance(self) -> Message:
        """Train up to the next measurement."""
        self._say("go")
        row = self._hear()
        if self.judge:
            row |= self.judge(self.work / row.pop("scores"))
        self.rows.append(row)
        return row

    def stop(self) -> Message | None:
        """End it; what it says last, if it says anything."""
        self._say("stop")
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.process.stdout.read()
        self.process.wait(60)
        return json.loads(line) if line else None

    def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def _hear(self) -> Message:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with status {self.process.wait()}: see its log")
        message: Message = json.loads(line)
        return message
