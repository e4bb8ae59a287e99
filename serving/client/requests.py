"""Ids to the protocol's request: BYTES tensors, rows padded with "" to one width."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

from serving.triton.repository import ENSEMBLE

Rows = Sequence[Sequence[str]]


def build_request(
    user_ids: Sequence[str] | None,
    histories: Rows | None,
    excludes: Rows | None,
    k: int | None,
    request_id: str | None,
) -> Any:
    """The ModelInferRequest of B rows; what is None is left out.

    Raises:
        ValueError: neither users nor histories, or lists of different lengths.
    """
    given = {"user_ids": user_ids, "histories": histories, "excludes": excludes}
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
    if k is not None:
        request.inputs.add(name="k", datatype="INT32", shape=[1])
        request.raw_input_contents.append(np.array([k], dtype="<i4").tobytes())
    return request


def _add_ids(request: Any, name: str, rows: Rows) -> None:
    """Add lists of ids as one BYTES tensor [B, longest]; servers skip the padding."""
    width = max([1, *(len(row) for row in rows)])
    table = np.full((len(rows), width), b"", dtype=object)
    for row, ids in zip(table, rows, strict=True):
        row[: len(ids)] = [item.encode() for item in ids]
    request.inputs.add(name=name, datatype="BYTES", shape=table.shape)
    request.raw_input_contents.append(serialize_byte_tensor(table).item())
