"""Golden requests as Triton's warm-up: a model is not ready before it has answered some of them.

Zeros warm nothing of a lookup and read one row of an item table. Imports tritonclient.grpc, so
nothing that shares a process with kserve may import this module.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import serialize_byte_tensor

from recommender.onnx_session import open_session
from recommender.string_graphs import HISTORY_TIMES
from serving.parity import look_up
from serving.triton.repository import EMBEDDED, ENSEMBLE

FOLDER = "warmup"  # Triton's own: <model>/warmup/<input_data_file>
REQUESTS = 4  # each delays readiness
_ONE = "one"  # the sample of zeros that they replace

Files = dict[str, bytes]


def add_golden(
    configs: Mapping[tuple[str, str | None], Any], lookup: Path, requests: Sequence[Mapping]
) -> Files:
    """Put some of the requests into the models' configs; their data, by path in the repository.

    Args:
        configs: of `build_configs`, which are changed.
        lookup: the lookup graph's file, which makes the ranker's inputs.
        requests: {history, exclude, history_times}; those with an empty history are passed over.
    """
    chosen = _spread([each for each in requests if each["history"]])
    if not chosen:
        return {}
    session = open_session(lookup)
    asked = [_as_sent(each) for each in chosen]
    ids = [look_up(session, each) for each in chosen]
    files: Files = {}
    for (model, variant), message in configs.items():
        if model == "ranker":
            given = ids
        elif model == "lookup" or (model, variant) == (ENSEMBLE, EMBEDDED):
            given = asked
        else:
            continue
        names = {tensor.name for tensor in message.input}
        kept = [sample for sample in message.model_warmup if sample.name != _ONE]
        del message.model_warmup[:]
        for number, tensors in enumerate(given, start=1):
            sample = message.model_warmup.add(name=f"golden {number}", batch_size=1)
            for tensor in sorted(names & tensors.keys()):
                path = f"golden_{number}_{tensor}"
                files[f"{model}/{FOLDER}/{path}"] = _raw(tensors[tensor])
                _describe(sample.inputs[tensor], tensors[tensor], path, message.max_batch_size)
        message.model_warmup.extend(kept)
    return files


def _spread(requests: Sequence[Mapping]) -> list[Mapping]:
    """Some of them, the first and the last among them: they go from short to long."""
    places = np.linspace(0, len(requests) - 1, min(REQUESTS, len(requests)))
    return [requests[place] for place in sorted({int(place) for place in places})]


def _as_sent(request: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A client's tensors, [1, n] each; Triton warms no optional input that lacks: "" is padding."""
    ids = {name: list(request.get(name) or [""]) for name in ("history", "exclude")}
    sent = {name: np.array([row], dtype=object) for name, row in ids.items()}
    times = list(request.get(HISTORY_TIMES) or [0] * len(ids["history"]))
    return sent | {HISTORY_TIMES: np.array([times], dtype=np.int64)}


def _raw(tensor: np.ndarray) -> bytes:
    if tensor.dtype == object:
        return bytes(serialize_byte_tensor(tensor).item())
    return tensor.tobytes()


def _describe(given: Any, tensor: np.ndarray, path: str, max_batch_size: int) -> None:
    given.data_type = pb.TYPE_STRING if tensor.dtype == object else pb.TYPE_INT64
    # Of a model that batches, dims are a row's.
    given.dims.extend(tensor.shape[1:] if max_batch_size else tensor.shape)
    given.input_data_file = path
