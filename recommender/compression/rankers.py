"""A candidate that answers: its graph on ONNX Runtime, or where there is none, torch.

Needs no torch for a graph: the process whose memory is measured is as small as one that serves.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

# Arrays of `ranker_inputs` → item_indices int64 [B, K].
Answer = Callable[..., np.ndarray]
ONNX, TORCH = "onnxruntime", "torch"


def runtime_of(place: Path) -> str:
    """What answers for `place`: a graph (recommender.onnx_session), or a saved model's folder."""
    return TORCH if (Path(place) / "model.json").is_file() else ONNX


def open_ranker(place: Path, k: int, threads: int = 1) -> Answer:
    """The ranker at `place`, ready to answer.

    Args:
        k: items of an answer, for a model in torch; a graph has its own.
        threads: of ONNX Runtime. Torch's are the process's: see `torch_threads`.
    """
    if runtime_of(place) == ONNX:
        return _graph(Path(place), threads)
    return _model(Path(place), k)


def warm_imports(place: Path) -> None:
    """Import what opening the ranker needs, without opening it."""
    if runtime_of(place) == ONNX:
        import onnxruntime  # noqa: F401

        import recommender.onnx_session
    else:
        import recommender.export
        import recommender.model  # noqa: F401


@contextmanager
def torch_threads(place: Path, threads: int) -> Iterator[None]:
    """Torch's threads for a while, where `place` is answered by torch."""
    if runtime_of(place) == ONNX:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _graph(path: Path, threads: int) -> Answer:
    from recommender.onnx_session import open_session
    from recommender.string_graphs import EVENT_TIMES

    session = open_session(path, threads)
    names = ("history_ids", "seen_ids", EVENT_TIMES)

    def answer(*inputs: np.ndarray) -> np.ndarray:
        given = dict(zip(names, inputs, strict=False))
        found: Any = session.run(["item_indices", "scores"], given)
        return np.asarray(found[0])

    return answer


def _model(folder: Path, k: int) -> Answer:
    import torch

    from recommender.export import Ranker
    from recommender.model import load_model

    ranker = Ranker(load_model(folder), k).eval()

    def answer(*inputs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(ranker(*map(torch.from_numpy, inputs))[0].numpy())

    return answer
