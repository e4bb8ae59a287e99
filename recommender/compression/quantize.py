"""INT8 weights and activations for a ranker's ONNX graph, the item table included."""

import logging
from pathlib import Path

import numpy as np

from recommender.files import atomic_file
from recommender.settings import QuantiseStep
from recommender.string_graphs import EVENT_TIMES

CALIBRATION_BATCH = 32


def quantize_ranker(
    source: Path,
    target: Path,
    config: QuantiseStep,
    history_ids: np.ndarray,
    seen_ids: np.ndarray,
    event_times: np.ndarray | None = None,
) -> None:
    """Write the INT8 version of `source` to `target`, by ONNX Runtime's static quantiser.

    Static, because the ranges of a dynamic one come from all requests that a server happens to
    batch: a user's answer would depend on the neighbours' (measured: top-100 overlap down to 0.97
    between a request alone and in a batch). The products' results stay in float: 256 levels for
    the scores of a whole catalogue cost a tenth of the top 10.

    Args:
        history_ids: int64 [n, L], seen_ids: int64 [n, S], and of a ranker that reads times
            event_times: int64 [n, L]: requests that give the activations' ranges, as the graph
            takes them.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    given = {"history_ids": history_ids, "seen_ids": seen_ids}
    if event_times is not None:
        given[EVENT_TIMES] = event_times

    class Requests(CalibrationDataReader):
        def __init__(self) -> None:
            self.starts = iter(range(0, len(history_ids), CALIBRATION_BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            start = next(self.starts, None)
            if start is None:
                return None
            rows = slice(start, start + CALIBRATION_BATCH)
            return {name: each[rows] for name, each in given.items()}

    # Of the gathered constants only the item table is large; the attention's few biases stay exact.
    small = [
        node.name
        for node in onnx.load(str(source)).graph.node
        if node.op_type == "Gather" and "table" not in node.input
    ]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a shape inference that torch's exporter has done
    try:
        with atomic_file(target) as draft:
            quantize_static(
                str(source),
                str(draft),
                Requests(),
                op_types_to_quantize=["MatMul", "Gather"],
                nodes_to_exclude=small,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
                per_channel=config.per_channel,
                reduce_range=config.reduce_range,
                extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
            )
    finally:
        root.setLevel(level)


def calibration_histories(
    histories: list[np.ndarray], count: int, seed: int, times: list[np.ndarray] | None = None
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """`count` beginnings of histories, short and long alike: what a growing user looks like.

    Histories without an item are passed over. With `times`, those of the beginnings too.
    """
    rng = np.random.default_rng(seed)
    some = [row for row, history in enumerate(histories) if len(history)]
    rows = [some[place] for place in rng.integers(0, len(some), size=count)]
    ends = [rng.integers(1, len(histories[row]) + 1) for row in rows]
    tracks = [histories] if times is None else [histories, times]
    begun = [[track[row][:end] for row, end in zip(rows, ends, strict=True)] for track in tracks]
    return begun[0], begun[1] if times is not None else None
