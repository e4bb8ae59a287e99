"""Hypothesis strategies for requests: right ones, nearly right ones, and bytes."""

import json
import struct
from typing import Any

from hypothesis import strategies as st
from tiny_version import K, catalogue
from wire import JSON_LENGTH, packed

MAX_ROWS = 4
IDS = st.sampled_from([*catalogue(), "196", "ü2", "", "nobody"]) | st.text(max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["user_id", "history", "exclude", "k"]) | st.text(max_size=8)
DIMS = st.integers(0, 4) | st.sampled_from([-1, 65, 10_001, 2**31, 2**62, -(2**63)])


@st.composite
def right_requests(draw: st.DrawFn) -> dict[str, Any]:
    """The JSON of a request that is answered with 200."""
    rows = draw(st.integers(1, MAX_ROWS))
    tensors = []
    first = draw(st.sampled_from(["user_id", "history", "both"]))
    if first != "history":
        users = draw(st.lists(IDS, min_size=rows, max_size=rows))
        shape = draw(st.sampled_from([[rows], [rows, 1]]))
        tensors.append({"name": "user_id", "datatype": "BYTES", "shape": shape, "data": users})
    for name, wanted in (("history", first != "user_id"), ("exclude", draw(st.booleans()))):
        if wanted:
            width = draw(st.integers(0, 12))
            ids = draw(st.lists(IDS, min_size=rows * width, max_size=rows * width))
            tensor = {"name": name, "datatype": "BYTES", "shape": [rows, width], "data": ids}
            tensors.append(tensor)
    if draw(st.booleans()):
        k = draw(st.integers(1, K))
        datatype = draw(st.sampled_from(["INT64", "INT32"]))
        tensors.append({"name": "k", "datatype": datatype, "shape": [1], "data": [k]})
    request: dict[str, Any] = {"inputs": draw(st.permutations(tensors))}
    if draw(st.booleans()):
        names = ["item_ids", "scores", "feature_status", "feature_age_seconds"]
        request["outputs"] = [{"name": draw(st.sampled_from(names))}]
    if draw(st.booleans()):
        request["id"] = draw(st.text(st.characters(exclude_characters="\0"), max_size=8))
    return request


def odd_headers() -> st.SearchStrategy[dict[str, str]]:
    """Headers that are passed on, with any characters that a header may have."""
    letters = st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
    names = st.sampled_from(["x-request-id", "traceparent", "tracestate", "baggage", "accept"])
    return st.dictionaries(names, st.text(letters, max_size=40), max_size=3)


@st.composite
def nearly_right_requests(draw: st.DrawFn) -> Any:
    """A right one with one to three of its parts replaced, taken out, or there twice."""
    request = draw(right_requests())
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(request))
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "remove", "repeat"]))
        if change == "remove":
            del container[key]
        elif change == "repeat" and isinstance(container, list):
            container.append(container[key])
        else:
            container[key] = draw(JSON)
    return request


def _places(value: Any) -> Any:
    """(container, key) of everything within `value`."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


@st.composite
def damaged(draw: st.DrawFn, raw: bytes) -> bytes:
    """`raw` with a part of it cut out, overwritten or repeated."""
    start = draw(st.integers(0, len(raw)))
    end = draw(st.integers(start, min(len(raw), start + 16)))
    middle = draw(st.binary(max_size=8) | st.just(raw[start:end] * 2))
    return raw[:start] + middle + raw[end:]


@st.composite
def rest_bytes(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """A body of any bytes or a damaged one, with or without the length header."""
    right = json.dumps(draw(right_requests())).encode()
    body = draw(st.binary(max_size=200) | damaged(right) | st.just(right + b"\0\0\0\0"))
    lengths = st.integers(-2, len(body) + 2).map(str) | st.sampled_from(["", "x", "1e3", "9" * 30])
    return body, draw(st.just({}) | lengths.map(lambda length: {JSON_LENGTH: length}))


@st.composite
def grpc_tensors(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of wire.grpc_request: a right request's, of which up to two parts are changed."""
    tensors, raw = [], []
    typed = draw(st.booleans())
    for tensor in draw(right_requests())["inputs"]:
        values = tensor["data"]
        if tensor["name"] == "k":
            content = struct.pack("<q" if tensor["datatype"] == "INT64" else "<i", values[0])
        else:
            values = [each.encode() for each in values]
            content = packed(*values)
        described = tensor["name"], tensor["shape"], tensor["datatype"]
        tensors.append([*described, values if typed else None])
        raw += [] if typed else [content]
    for _ in range(draw(st.integers(0, 2))):
        tensor = draw(st.sampled_from(tensors))
        part = draw(st.sampled_from(["name", "shape", "contents", "raw"]))
        if part == "name":
            tensor[0] = draw(NAMES)
        elif part == "shape":
            tensor[1] = draw(st.lists(DIMS, max_size=3))
        elif part == "contents":
            tensor[2], tensor[3] = draw(contents())
        elif raw:
            place = draw(st.integers(0, len(raw) - 1))
            raw[place] = draw(damaged(raw[place]))
        else:
            raw.append(draw(st.binary(max_size=40)))
    return {"tensors": tensors, "raw": raw}


def contents() -> st.SearchStrategy[tuple[str, list[Any] | None]]:
    """A datatype with typed contents that it may have, or with none."""
    numbers = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3)
    strings = st.lists(st.binary(max_size=6), max_size=6)
    return st.one_of(
        st.tuples(st.just("BYTES"), strings),
        st.tuples(st.sampled_from(["INT64", "INT32"]), numbers),
        st.tuples(st.sampled_from(["BYTES", "INT64", "FP32", "FP16", "BOOL", ""]), st.none()),
    )
