"""An epoch's batches on their way into training: made ahead, cut into pieces, gone on with."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from recommender.sequences import Batch, Split, epoch_batches
from recommender.settings import ModelConfig, TrainingConfig
from recommender.training.ranks import own_share, world_size


class Piece(NamedTuple):
    """What one forward pass reads: this process's rows of a part of an optimiser step."""

    batch: Batch
    positions: float  # the step's positions that have a next item, over the number of processes
    windows: int  # in all processes


class EpochPieces:
    """The pieces of one epoch, `training.accumulate` of them an optimiser step.

    An iterable with the interface by which Lightning goes on within an epoch.
    """

    def __init__(self, pieces: list[Piece], epoch: int, pinned: bool) -> None:
        self.pieces = pieces
        self.epoch = epoch
        self.pinned = pinned
        self._start = self._served = 0

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[Piece]:
        for index in range(self._start, len(self.pieces)):
            self._served = index + 1
            piece = self.pieces[index]
            yield _pinned(piece) if self.pinned else piece

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "served": self._served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        # Saved at an epoch's end it speaks of the epoch before.
        if state["epoch"] == self.epoch and state["served"] < len(self.pieces):
            self._start = self._served = state["served"]


class Batches:
    """Every epoch's pieces; a thread makes the next epoch's while this one is trained on.

    Args:
        pinned: put them into page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(
        self, split: Split, model: ModelConfig, config: TrainingConfig, pinned: bool = False
    ) -> None:
        self.split = split
        self.model = model
        self.config = config
        self.pinned = pinned
        self._ahead: dict[int, Future[list[Piece]]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="next-epoch")
        self.steps_per_epoch = len(self._pieces(0)) // config.accumulate

    def epoch(self, epoch: int) -> EpochPieces:
        """The same for the same seed and epoch, whatever ran before."""
        made = self._ahead.pop(epoch, None)
        pieces = made.result() if made else self._make(epoch)
        self._ahead = {}
        if epoch + 1 < self.config.epochs:
            self._ahead[epoch + 1] = self._thread.submit(self._make, epoch + 1)
        return EpochPieces(pieces, epoch, self.pinned)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _pieces(self, epoch: int) -> list[Piece]:
        """Made now, and kept for `epoch`."""
        future: Future[list[Piece]] = Future()
        future.set_result(self._make(epoch))
        self._ahead[epoch] = future
        return future.result()

    def _make(self, epoch: int) -> list[Piece]:
        config = self.config
        batches = epoch_batches(
            self.split.histories,
            self.model.max_length,
            config.batch_size * config.accumulate,
            config.seed,
            epoch,
            config.reversed_share,
            times=self.split.times_for(self.model),
        )
        return [piece for batch in batches for piece in cut(batch, config.accumulate)]


def cut(batch: Batch, count: int) -> Iterator[Piece]:
    """`count` pieces whose losses, each over the whole batch's positions, add up to its loss.

    So accumulating gradients over them is the same as one larger batch, also where lengths and
    numbers of rows differ. A process whose share of a piece is empty reads a row of padding, which
    has nothing to learn: without one its backward pass would not reach every weight, and the
    others would wait for its gradients.
    """
    positions = int((batch.following_BL > 0).sum()) / world_size()
    for rows in torch.arange(len(batch.history_BL)).tensor_split(count):
        longest = int((batch.history_BL[rows] > 0).sum(dim=1).max()) if len(rows) else 1

        def part(matrix_BL: Tensor, rows: Tensor = rows, longest: int = longest) -> Tensor:
            share = own_share(matrix_BL[rows])[:, :longest]
            return share if len(share) else matrix_BL.new_zeros(1, longest)

        times = None if batch.times_BL is None else part(batch.times_BL)
        own = Batch(part(batch.history_BL), part(batch.following_BL), times)
        yield Piece(own, positions, len(rows))


def _pinned(piece: Piece) -> Piece:
    batch = Batch(*(None if rows is None else rows.pin_memory() for rows in piece.batch))  # type: ignore[arg-type]
    return piece._replace(batch=batch)


def validation_rows(split: Split, at_once: int) -> DataLoader:
    """Numbers of a split's rows in groups of a like length of history, as long as `at_once` allows.

    Each process takes its share of every group, so that all have the same number of groups.
    """
    order = sorted(range(len(split)), key=lambda row: len(split.histories[row]))
    size = at_once * world_size()
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    return DataLoader(groups, batch_size=None, collate_fn=list)  # type: ignore[arg-type]
