"""Whether the requests that gave an INT8 graph its ranges speak for those that it will be asked.

Shapes: n requests, L history length.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recommender.errors import KuberecError
from recommender.onnx_session import open_session
from recommender.sequences import Split
from recommender.settings import ModelConfig, QuantiseStep

# The greatest distance of two distributions (Kolmogorov-Smirnov) that is put down to chance: of 64
# and 256 requests of one kind, one pair in a thousand is more than 0.27 apart.
MOST_APART = 0.3
HELD_OUT = 256  # validation histories
BATCH = 32
Request = tuple[list[np.ndarray], list[np.ndarray] | None]  # histories, and times of their events


def calibration_histories(
    histories: list[np.ndarray], count: int, seed: int, times: list[np.ndarray] | None = None
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """`count` beginnings of histories, short and long alike: what a growing user looks like.

    Histories without an item are passed over. With `times`, those of the beginnings too.

    Raises:
        KuberecError: there are fewer beginnings than `count` asks for.
    """
    rng = np.random.default_rng(seed)
    some = [row for row, history in enumerate(histories) if len(history)]
    there = sum(len(history) for history in histories)
    if there < count:
        raise KuberecError(
            f"quantise: calibration_requests: {count} asked for, but the histories have {there} "
            "beginnings in all: lower it, or compress a model of more data"
        )
    rows = [some[place] for place in rng.integers(0, len(some), size=count)]
    ends = [rng.integers(1, len(histories[row]) + 1) for row in rows]
    tracks = [histories] if times is None else [histories, times]
    begun = [[track[row][:end] for row, end in zip(rows, ends, strict=True)] for track in tracks]
    return begun[0], begun[1] if times is not None else None


def calibration_requests(
    splits: Mapping[str, Split],
    step: QuantiseStep,
    config: ModelConfig,
    log_popularity: np.ndarray,
) -> tuple[Request, Request]:
    """Histories of training that give the ranges, and of validation that they are tried with.

    Raises:
        KuberecError: there are too few, or the two are unlike (`require_alike`).
    """
    valid = splits["valid"]
    # Of little data all beginnings there are: how many are held out is nobody's setting.
    held = min(HELD_OUT, sum(map(len, valid.histories)))
    drawn = [
        calibration_histories(split.histories, count, seed, split.times_for(config))
        for split, count, seed in (
            (splits["train"], step.calibration_requests, step.seed),
            (valid, held, step.seed + 1),
        )
    ]
    require_alike(drawn[0][0], drawn[1][0], log_popularity, config.max_length)
    return drawn[0], drawn[1]


def require_alike(
    calibration: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    log_popularity: np.ndarray,
    max_length: int,
) -> None:
    """Compare two samples of histories by length and by their items' popularity.

    Raises:
        KuberecError: one of the two is further apart than chance explains.
    """
    for what, of in (
        ("lengths", lambda rows: np.minimum([len(row) for row in rows], max_length)),
        ("items' popularity", lambda rows: log_popularity[np.concatenate(list(rows))]),
    ):
        apart = distance(of(calibration), of(held_out))
        if apart > MOST_APART:
            raise KuberecError(
                f"quantise: the calibration histories' {what} are {apart:.2f} away from those of "
                f"validation (Kolmogorov-Smirnov; up to {MOST_APART} is allowed): their ranges "
                "would not fit what is asked later. Look at how the windows were split; or serve "
                "float32, without this step"
            )


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """The Kolmogorov-Smirnov statistic of two samples: the most that their shares below any value
    differ, 0 to 1."""
    values = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(s), values, side="right") / len(s) for s in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def clipped_shares(
    exact: Path, quantised: Path, requests: dict[str, np.ndarray]
) -> dict[str, float]:
    """Of each activation that `quantised` rounds: the share of its values outside the range.

    The values are those of the graph `exact`, which has the same tensors, for `requests` by the
    graphs' input names.
    """
    import onnx

    ranges = _ranges(onnx.load(str(quantised)).graph)
    model = onnx.load(str(exact))
    made = {name for node in model.graph.node for name in node.output}
    watched = [name for name in ranges if name in made]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in watched)
    session = open_session(model.SerializeToString())
    outside = dict.fromkeys(watched, 0)
    sizes = dict.fromkeys(watched, 0)
    for start in range(0, len(requests["history_ids"]), BATCH):
        given = {name: each[start : start + BATCH] for name, each in requests.items()}
        for name, values in zip(watched, session.run(watched, given), strict=True):
            low, high = ranges[name]
            outside[name] += int(((values < low) | (values > high)).sum())
            sizes[name] += values.size
    return {name: outside[name] / sizes[name] for name in watched}


def require_covered(shares: dict[str, float], step: QuantiseStep) -> None:
    """Raises KuberecError, naming the tensor, where more is cut off than `max_clipped` allows."""
    name, share = max(shares.items(), key=lambda item: item[1], default=("", 0.0))
    if share > step.max_clipped:
        raise KuberecError(
            f"quantise: {share:.1%} of the values of '{name}' on validation histories lie outside "
            f"the range that {step.calibration_requests} calibration histories gave it, and would "
            f"be cut off (max_clipped: {step.max_clipped:.1%}): raise calibration_requests, or "
            "max_clipped if the step's row in the ledger loses nothing"
        )


def _ranges(graph: Any) -> dict[str, tuple[float, float]]:
    """The values that each quantised activation can hold, half a level wider at both ends."""
    from onnx import numpy_helper

    constants = {each.name: each for each in graph.initializer}
    ranges = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants:
            scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
            limits = np.iinfo(zero.dtype)
            ends = [(end - int(zero)) * float(scale) for end in (limits.min, limits.max)]
            ranges[node.input[0]] = (ends[0] - float(scale) / 2, ends[1] + float(scale) / 2)
    return ranges
