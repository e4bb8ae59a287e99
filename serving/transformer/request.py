"""What a client may ask: an Open Inference Protocol request, checked tensor by tensor.

Reads any object with the fields of kserve.InferRequest, so that it needs no kserve itself.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recommender.string_graphs import HISTORY_TIMES
from serving.transformer.errors import BadRequest

Rows = list[list[bytes]]
Times = list[list[int]]
MAX_ID_BYTES = 1024

# Tensors by name: allowed datatypes, and the shape as documentation and metadata show it.
INPUTS: dict[str, tuple[tuple[str, ...], list[int]]] = {
    "user_id": (("BYTES",), [-1]),
    "history": (("BYTES",), [-1, -1]),
    "exclude": (("BYTES",), [-1, -1]),
    HISTORY_TIMES: (("INT64",), [-1, -1]),
    "k": (("INT64", "INT32"), [1]),
}
OUTPUTS: dict[str, tuple[str, list[int]]] = {
    "item_ids": ("BYTES", [-1, -1]),
    "scores": ("FP32", [-1, -1]),
    "feature_age_seconds": ("FP64", [-1]),
    "feature_status": ("BYTES", [-1]),
}


class Limits(NamedTuple):
    """What one request may ask of a model version."""

    max_rows: int
    max_k: int
    max_ids: int  # a row, of history or exclude


class Ask(NamedTuple):
    """A request that is fit to be answered. B = rows; ids are UTF-8, "" is padding.

    k None: as many items as there are. times: of each of `history`, seconds, 0 where unknown.
    """

    rows: int
    user_ids: list[str] | None
    history: Rows | None
    exclude: Rows | None
    k: int | None
    outputs: tuple[str, ...]
    times: Times | None = None


def read_request(request: Any, limits: Limits) -> Ask:
    """Check a kserve.InferRequest and take it apart.

    Raises:
        BadRequest: naming the tensor, what is wrong with it, and what is allowed.
    """
    if "\0" in (request.id or ""):  # Triton would cut it off there
        raise BadRequest(f"id: {request.id!r:.60}; allowed: a string without NUL")
    tensors = _by_name(request.inputs)
    if "user_id" not in tensors and "history" not in tensors:
        raise BadRequest("inputs: a request needs 'user_id', or a 'history' of its own")
    rows = None
    lists: dict[str, Any] = {}
    for name in ("user_id", "history", "exclude"):
        if name in tensors:
            lists[name] = _read_ids(name, tensors[name], rows, limits)
            rows = len(lists[name])
    assert rows is not None
    times = None
    if HISTORY_TIMES in tensors:
        times = _read_times(tensors[HISTORY_TIMES], lists.get("history"))
    return Ask(
        rows=rows,
        user_ids=[row[0].decode() for row in lists["user_id"]] if "user_id" in lists else None,
        history=lists.get("history"),
        exclude=lists.get("exclude"),
        k=_read_k(tensors["k"], limits.max_k) if "k" in tensors else None,
        outputs=_read_outputs(request.request_outputs),
        times=times,
    )


def check_tensor(name: str, datatype: str) -> None:
    """Raise BadRequest unless there is an input of this name and datatype."""
    if name not in INPUTS:
        raise BadRequest(f"inputs: unknown tensor {name!r:.80}; allowed: {_list(INPUTS)}")
    allowed = INPUTS[name][0]
    if datatype not in allowed:
        raise BadRequest(f"{name}: datatype {datatype!r:.40}; allowed: {_list(allowed)}")


def _by_name(inputs: Sequence[Any]) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for tensor in inputs:
        check_tensor(tensor.name, tensor.datatype)
        if tensor.name in tensors:
            raise BadRequest(f"inputs: tensor '{tensor.name}' is there twice")
        tensors[tensor.name] = tensor
    return tensors


def _read_ids(name: str, tensor: Any, rows: int | None, limits: Limits) -> Rows:
    """Ids of a BYTES tensor, a list for each row; user_id [B] becomes [B, 1]."""
    shape = _shape(name, tensor)
    if name == "user_id":
        if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            raise BadRequest(f"user_id: shape {shape}; allowed: [B] or [B, 1]")
        shape = [shape[0], 1]
    elif len(shape) != 2:
        raise BadRequest(f"{name}: shape {shape}; allowed: [B, number of ids]")
    if not 1 <= shape[0] <= limits.max_rows:
        raise BadRequest(f"{name}: {shape[0]} rows; allowed: 1 to {limits.max_rows}")
    if rows is not None and shape[0] != rows:
        raise BadRequest(f"{name}: {shape[0]} rows beside {rows} of the tensor before it")
    if shape[1] > limits.max_ids:
        raise BadRequest(f"{name}: {shape[1]} ids a row; allowed: up to {limits.max_ids}")
    values = _values(name, tensor, shape[0] * shape[1])
    width = shape[1]
    return [
        [_encode(name, value, row) for value in values[row * width : (row + 1) * width]]
        for row in range(shape[0])
    ]


def _encode(name: str, value: Any, row: int) -> bytes:
    if not isinstance(value, str | bytes):
        raise BadRequest(f"{name}: {value!r:.60} in row {row} is not a string")
    try:
        raw = value.encode() if isinstance(value, str) else value
        raw.decode()
    except UnicodeError:
        raise BadRequest(f"{name}: {value!r:.60} in row {row} is not UTF-8") from None
    if len(raw) > MAX_ID_BYTES:
        raise BadRequest(
            f"{name}: an id of {len(raw)} bytes in row {row}; allowed: up to {MAX_ID_BYTES}"
        )
    return raw


def _read_times(tensor: Any, history: Rows | None) -> Times:
    if history is None:
        raise BadRequest(f"{HISTORY_TIMES}: there is no 'history' that they are of")
    shape, wanted = _shape(HISTORY_TIMES, tensor), [len(history), len(history[0])]
    if shape != wanted:
        raise BadRequest(f"{HISTORY_TIMES}: shape {shape}; allowed: {wanted}, that of 'history'")
    values = _values(HISTORY_TIMES, tensor, wanted[0] * wanted[1])
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise BadRequest(f"{HISTORY_TIMES}: {value!r:.60} is not an integer")
        if not -(2**63) <= value < 2**63:
            raise BadRequest(f"{HISTORY_TIMES}: {value!r:.60} is no 64-bit number")
    flat, width = [int(value) for value in values], wanted[1]
    return [flat[row * width : (row + 1) * width] for row in range(wanted[0])]


def _read_k(tensor: Any, max_k: int) -> int:
    shape = _shape("k", tensor)
    if shape != [1]:
        raise BadRequest(f"k: shape {shape}; allowed: [1], the same number for all rows")
    (value,) = _values("k", tensor, 1)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise BadRequest(f"k: {value!r:.60} is not an integer")
    if not 1 <= value <= max_k:
        raise BadRequest(f"k: {value}; allowed: 1 to {max_k}, the version's export.k")
    return int(value)


def _read_outputs(wanted: Sequence[Any] | None) -> tuple[str, ...]:
    if not wanted:
        return tuple(OUTPUTS)
    for output in wanted:
        if output.name not in OUTPUTS:
            raise BadRequest(
                f"outputs: unknown tensor {output.name!r:.80}; allowed: {_list(OUTPUTS)}"
            )
    return tuple(dict.fromkeys(output.name for output in wanted))


def _shape(name: str, tensor: Any) -> list[int]:
    shape = list(tensor.shape)
    if any(isinstance(dim, bool) or not isinstance(dim, int) or dim < 0 for dim in shape):
        raise BadRequest(f"{name}: shape {shape!r:.80}; allowed: whole numbers from 0")
    return shape


def _values(name: str, tensor: Any, count: int) -> list[Any]:
    """The flat values; JSON ones may be nested by rows."""
    data = tensor.data
    try:
        if isinstance(data, list) and data:
            values = data
            while any(isinstance(value, list) for value in values):
                if not all(isinstance(value, list) for value in values):
                    raise BadRequest(f"{name}: its data mixes lists and values")
                values = [value for part in values for value in part]
        else:  # none, or as raw bytes
            values = tensor.as_numpy().ravel().tolist()
    except (ValueError, TypeError, struct.error) as error:
        raise BadRequest(
            f"{name}: its data does not fit shape {list(tensor.shape)} and datatype "
            f"{tensor.datatype} ({error})"
        ) from error
    if len(values) != count:
        raise BadRequest(f"{name}: {len(values)} values; its shape asks for {count}")
    return values


def _list(names: Any) -> str:
    return ", ".join(names)
