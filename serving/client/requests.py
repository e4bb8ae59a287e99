"""Ids to the protocol's request: BYTES tensors, rows padded with "" to one width."""

import struct
from collections.abc import Sequence
from typing import Any

from tritonclient.grpc import service_pb2

from recommender.string_graphs import HISTORY_TIMES
from serving.triton.repository import ENSEMBLE

Rows = Sequence[Sequence[str]]


def build_request(
    user_ids: Sequence[str] | None,
    histories: Rows | None,
    excludes: Rows | None,
    k: int | None,
    request_id: str | None,
    history_times: Sequence[Sequence[int]] | None = None,
) -> Any:
    """The ModelInferRequest of B rows; what is None is left out.

    Raises:
        ValueError: neither users nor histories, lists of different lengths, a string in place of a
            list, an id that is no UTF-8, a `k` beyond 64 bits, or times that are not one an item.
    """
    given = {"user_ids": user_ids, "histories": histories, "excludes": excludes}
    # A string is a sequence of strings too: its letters would be taken for ids.
    for name, rows in given.items():
        lists = [rows] if name == "user_ids" else [rows, *(rows or ())]
        if any(isinstance(each, str) for each in lists):
            raise ValueError(f"{name}: a string where a list of ids belongs")
    lengths = {name: len(rows) for name, rows in given.items() if rows is not None}
    if user_ids is None and histories is None:
        raise ValueError("name users, or give histories")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"one of each for every row, not {lengths}")
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE, id=request_id or "")
    if user_ids is not None:
        _add_ids(request, "user_id", [[user] for user in user_ids])
    if histories is not None:
        _add_ids(request, "history", histories)
    if excludes is not None:
        _add_ids(request, "exclude", excludes)
    if history_times is not None:
        _add_times(request, history_times, histories)
    if k is not None:
        if not -(2**63) <= k < 2**63:
            raise ValueError(f"k: {k} is no 64-bit number")
        request.inputs.add(name="k", datatype="INT64", shape=[1])
        request.raw_input_contents.append(struct.pack("<q", k))
    return request


def _add_ids(request: Any, name: str, rows: Rows) -> None:
    """Add lists of ids as one BYTES tensor [B, longest]; servers skip the padding."""
    width = max([1, *(len(row) for row in rows)])
    request.inputs.add(name=name, datatype="BYTES", shape=[len(rows), width])
    padded = (item for row in rows for item in [*row, *[""] * (width - len(row))])
    request.raw_input_contents.append(b"".join(map(_encode, padded)))


def _add_times(request: Any, rows: Sequence[Sequence[int]], histories: Rows | None) -> None:
    """Add times as one INT64 tensor [B, longest]; 0, unknown, beside the padding."""
    lengths = [len(row) for row in histories or ()]
    if [len(row) for row in rows] != lengths:
        raise ValueError(
            f"history_times: {[len(row) for row in rows]} times for histories of {lengths} items: "
            "give one an item, 0 where it is not known"
        )
    width = max([1, *lengths])
    request.inputs.add(name=HISTORY_TIMES, datatype="INT64", shape=[len(rows), width])
    try:
        packed = [struct.pack(f"<{width}q", *row, *[0] * (width - len(row))) for row in rows]
    except struct.error as error:
        raise ValueError(f"history_times: whole seconds since 1970 ({error})") from None
    request.raw_input_contents.append(b"".join(packed))


def _encode(item: str) -> bytes:
    """An element of a BYTES tensor: its length as four bytes, little-endian, and its bytes."""
    raw = item.encode()
    return struct.pack("<I", len(raw)) + raw
