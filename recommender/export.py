"""The ranker as one ONNX file: history and seen items in, top K out, everything else folded in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recommender.agreement import TIE, Answers, agreement
from recommender.errors import KuberecError
from recommender.model import SequentialRecommender
from recommender.onnx_export import write_onnx
from recommender.onnx_session import open_session
from recommender.opsets import OPSET
from recommender.ranker_inputs import request_inputs
from recommender.schema import MASKED_SCORE
from recommender.string_graphs import EVENT_TIMES


class NoGraph(KuberecError):
    """ONNX has not what a Hugging Face decoder is made of."""


class Ranker(nn.Module):
    """A SequentialRecommender with its item table computed once, masking and top K.

    Inputs: history_ids int64 [B, L], left-padded with 0, and seen_ids int64 [B, S], 0-padded; of a
    model that reads times also event_times int64 [B, L], seconds of each of `history_ids`, 0 where
    unknown. Outputs: item_indices int64 [B, K] and scores float32 [B, K], best first. Seen items
    are not recommended: where fewer than K are left, the rest is index 0, score MASKED_SCORE.
    A history without known items is scored by log popularity.
    """

    table: Tensor

    def __init__(self, model: SequentialRecommender, k: int) -> None:
        super().__init__()
        items = model.text_vectors.shape[0] - 1
        if k > items:
            raise KuberecError(f"export.k = {k} is more than the {items} items: lower it")
        self.model = model
        self.k = k
        self.register_buffer("table", model.item_table().detach())

    def forward(
        self, history_ids: Tensor, seen_ids: Tensor, event_times: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        hidden_BD = self.model.encode(
            history_ids, self.table, last_only=True, times_BL=event_times
        )[:, 0]
        known_B1 = (history_ids > 0).any(dim=1, keepdim=True)
        scores_BN = torch.where(known_B1, hidden_BD @ self.table.T, self.model.log_popularity)
        padded_BS = nn.functional.pad(seen_ids, (0, 1))
        scores_BN = scores_BN.scatter(1, padded_BS, MASKED_SCORE)
        scores_BK, indices_BK = torch.topk(scores_BN, self.k, dim=1)
        return torch.where(scores_BK > MASKED_SCORE, indices_BK, 0), scores_BK


def export_ranker(
    model: SequentialRecommender, path: Path, k: int, max_seen: int, opset: int = OPSET
) -> None:
    """Write the ranker to `path`, atomically: B, L and S may vary, K is fixed.

    Args:
        max_seen: S of the requests that it is made for.
        opset: see recommender.opsets.

    Raises:
        KuberecError: servers do not know the opset; `k` is more than there are items.
        NoGraph: the backbone is a Hugging Face decoder with something that ONNX has not.
    """
    write_ranker(Ranker(model.eval(), k).eval(), model, path, max_seen, opset)


def write_ranker(
    ranker: nn.Module,
    model: SequentialRecommender,
    path: Path,
    max_seen: int,
    opset: int,
    at_most: bool = False,
) -> None:
    """Write a module with `Ranker`'s inputs and outputs, made of `model`, to `path`, atomically.

    `at_most`: S is `max_seen` or less.
    """
    # An example's dimension of 1 would be taken for one that never varies.
    widths = {"history_ids": model.config.max_length, "seen_ids": max(max_seen, 2)}
    if model.config.time != "none":
        widths[EVENT_TIMES] = model.config.max_length
    example = {name: torch.ones(2, width, dtype=torch.int64) for name, width in widths.items()}
    dynamic = {name: {0: "batch", 1: "length"} for name in widths}
    dynamic["seen_ids"] = {0: "batch", 1: "seen"}
    most = {"seen": max(max_seen, 2)} if at_most else {}
    with _explained(model):
        write_onnx(ranker, example, ["item_indices", "scores"], path, opset, dynamic, most)


@contextmanager
def _explained(model: SequentialRecommender) -> Iterator[None]:
    """What stops the export of a decoder that is not ours, with what to do."""
    try:
        yield
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError) as error:
        if model.config.hf is None:
            raise
        cause: BaseException = error  # the exporter's own words are of its steps
        while cause.__cause__ is not None:
            cause = cause.__cause__
        said = str(cause).strip().splitlines()[0][:300]
        raise NoGraph(
            f"model.hf.name: the decoder '{model.config.hf.name}' cannot be exported to ONNX: "
            f"distil it to a Transformer first (recommender.compression.distill), and export that "
            f"({said})"
        ) from error


def rank(
    session: Any,
    history_ids: np.ndarray,
    seen_ids: np.ndarray,
    event_times: np.ndarray | None = None,
) -> tuple[Any, Any]:
    """Run a ranker session: (item_indices [B, K], scores [B, K]).

    `event_times` as `Ranker` says: for rankers that read times, and for those alone.
    """
    given = request_inputs(history_ids, seen_ids, event_times)
    indices, scores = session.run(["item_indices", "scores"], given)
    return indices, scores


def torch_answers(
    model: SequentialRecommender,
    k: int,
    history_ids: np.ndarray,
    seen_ids: np.ndarray,
    event_times: np.ndarray | None = None,
) -> Answers:
    """What the model's ranker answers in torch, without a graph."""
    inputs = (history_ids, seen_ids) + (() if event_times is None else (event_times,))
    ranker = Ranker(model.eval(), k).eval()
    with torch.inference_mode():
        indices, scores = ranker(*map(torch.from_numpy, inputs))
    return Answers(indices.numpy(), scores.numpy())


def torch_onnx_parity(
    model: SequentialRecommender, path: Path, *inputs: np.ndarray
) -> dict[str, float]:
    """How far the ONNX ranker at `path` is from the model it came from (`agreement`)."""
    found = Answers(*rank(open_session(path), *inputs))
    return agreement(found, torch_answers(model, found.ids_BK.shape[1], *inputs), TIE)
