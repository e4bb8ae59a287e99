"""Mistakes that a client can make, each with what its refusal must say (a regular expression)."""

import struct
from typing import Any

from tiny_endpoint import MAX_BATCH_SIZE
from tiny_version import K
from wire import JSON_LENGTH, binary_body, grpc_request, packed, rest_request, tensor

from serving.settings import TransformerConfig

MAX_IDS = TransformerConfig().max_ids
TOO_MANY_ROWS = MAX_BATCH_SIZE + 1
USER = tensor("user_id", [1], ["196"])
BINARY_USER = rest_request(tensor("user_id", [1], binary_data_size=7))
NO_USER = "a request needs 'user_id', or a 'history' of its own"
K_LIMIT = f"allowed: 1 to {K}, the version's export.k"


def k(value: Any, datatype: str = "INT64", shape: Any = (1,)) -> dict[str, Any]:
    return rest_request(USER, tensor("k", list(shape), [value], datatype))


def text(body: bytes) -> bytes:
    """A REST request whose one user id is these bytes of JSON."""
    return b'{"inputs":[{"name":"user_id","shape":[1],"datatype":"BYTES","data":["%s"]}]}' % body


REST = {
    # The tensors.
    "wrong name": (rest_request(tensor("user", [1], ["1"])), "unknown tensor 'user'; allowed: us"),
    "no name": (rest_request({"shape": [1]}), r"inputs\[0\]: name: None; allowed: a string"),
    "twice": (rest_request(USER, USER), "'user_id' is there twice"),
    "datatype": (rest_request(tensor("user_id", [1], ["1"], "FP32")), "'FP32'; allowed: BYTES"),
    "no datatype": (rest_request(tensor("user_id", [1], ["1"], None)), "datatype: None; allowed"),
    "shape": (rest_request(tensor("user_id", [1, 2], ["1", "2"])), r"shape \[1, 2\]; allowed: \[B"),
    "rank": (rest_request(tensor("history", [1, 1, 1], ["1"])), r"history: shape \[1, 1, 1\]"),
    "negative": (rest_request(tensor("history", [1, -1], ["1"])), "allowed: whole numbers from 0"),
    "fraction": (rest_request(tensor("history", [1, 1.5], ["1"])), "allowed: whole numbers from 0"),
    "no shape": (rest_request(tensor("user_id", None, ["1"])), "shape: None; allowed: a list"),
    "too few": (rest_request(tensor("history", [1, 2], ["1"])), "1 values; its shape asks for 2"),
    "too many": (rest_request(tensor("history", [1, 0], ["1"])), "1 values; its shape asks for 0"),
    "ragged": (rest_request(tensor("history", [2, 1], [["1"], "2"])), "mixes lists and values"),
    "no data": (rest_request(tensor("user_id", [1])), "neither 'data' nor a binary_data_size"),
    "numbers": (rest_request(tensor("user_id", [1], [196])), "196 in row 0 is not a string"),
    "null": (rest_request(tensor("user_id", [1], [None])), "None in row 0 is not a string"),
    "rows": (
        rest_request(tensor("user_id", [TOO_MANY_ROWS], ["1"] * TOO_MANY_ROWS)),
        f"{TOO_MANY_ROWS} rows; allowed: 1 to {MAX_BATCH_SIZE}",
    ),
    "no rows": (
        rest_request(tensor("user_id", [0], [])),
        f"0 rows; allowed: 1 to {MAX_BATCH_SIZE}",
    ),
    "rows differ": (
        rest_request(USER, tensor("exclude", [2, 1], ["1", "2"])),
        "exclude: 2 rows beside 1",
    ),
    "ids": (
        rest_request(tensor("history", [1, MAX_IDS + 1], ["1"] * (MAX_IDS + 1))),
        f"history: {MAX_IDS + 1} ids a row; allowed: up to {MAX_IDS}",
    ),
    "gigantic": (rest_request(tensor("history", [1, 10**12], ["1"])), "ids a row; allowed: up to"),
    "long id": (rest_request(tensor("user_id", [1], ["x" * 2000])), "an id of 2000 bytes in row 0"),
    "nobody": (rest_request(), NO_USER),
    "nobody, but excluded": (rest_request(tensor("exclude", [1, 1], ["1"])), NO_USER),
    # k and the outputs.
    "k of 0": (k(0), f"k: 0; {K_LIMIT}"),
    "k beyond": (k(K + 1), f"k: {K + 1}; {K_LIMIT}"),
    "k negative": (k(-1, "INT32"), f"k: -1; {K_LIMIT}"),
    "k gigantic": (k(2**80), "is not an integer"),
    "k fraction": (k(1.5), "k: 1.5 is not an integer"),
    "k text": (k("1"), "k: '1' is not an integer"),
    "k true": (k(True), "k: True is not an integer"),
    "k datatype": (k(1.0, "FP32"), "k: datatype 'FP32'; allowed: INT64, INT32"),
    "k shape": (k(1, shape=(1, 1)), r"k: shape \[1, 1\]; allowed: \[1\]"),
    "output": (rest_request(USER, outputs=[{"name": "no"}]), "unknown tensor 'no'; allowed: item"),
    "outputs": (rest_request(USER, outputs="x"), "outputs: 'x'; allowed: a list of tensors"),
    # The JSON.
    "nothing": (b"", r"not JSON \(.*zero-length"),
    "half": (b'{"inputs": [', "not JSON"),
    "other bytes": (b"\x00\xff\xfe", "not JSON"),
    "NaN": (text(b"").replace(b"[1]", b"[NaN]"), "not JSON"),
    "deep": (b"[" * 100_000, r"not JSON \(.*depth"),
    "not UTF-8": (text(b"\xff"), r"not JSON \(.*UTF-8"),
    "half a surrogate": (text(b"\\ud800"), r"not JSON \(.*surrogate"),
    "a list": ([], r"the body: \[\]; allowed: a JSON object"),
    "inputs": ({"inputs": "abc"}, "inputs: 'abc'; allowed: a list of tensors"),
    "inputs of numbers": ({"inputs": [1]}, r"inputs\[0\]: 1; allowed: an object"),
    "id": (rest_request(USER, id=5), "id: 5; allowed: a string"),
    "parameters": (rest_request(USER, parameters=[]), r"parameters: \[\]; allowed: an object"),
}


def binary(*parts: bytes, **headers: str) -> tuple[bytes, dict[str, str]]:
    body, header = binary_body(BINARY_USER, *parts)
    return body, header | {JSON_LENGTH: headers.get("length", header[JSON_LENGTH])}


GOOD = packed(b"196")
BINARY = {
    "short": (binary(GOOD[:-1]), "binary_data_size 7; allowed: 0 to 6"),
    "left over": (binary(GOOD, b"x"), "1 bytes more than its tensors' data"),
    "length of an id": (binary(b"\xff\xff\xff\xff196"), r"data does not fit shape \[1\]"),
    "two ids": (binary(packed(b"", b"")[:7]), r"data does not fit shape \[1\]"),
    "not UTF-8": (binary(packed(b"\xff\xfe\xfd")), "in row 0 is not UTF-8"),
    "header too small": (binary(GOOD, length="20"), "not JSON"),
    "header too large": (binary(GOOD, length="100000"), "'100000'; allowed: 1 to the body's"),
    "header negative": (binary(GOOD, length="-1"), "'-1'; allowed: 1 to the body's"),
    "header 0": (binary(GOOD, length="0"), "'0'; allowed: 1 to the body's"),
    "header text": (binary(GOOD, length="abc"), "'abc'; allowed: 1 to the body's"),
    "compressed": ((b"\x1f\x8b", {"content-encoding": "gzip"}), "'gzip'; allowed: none"),
}

RAW_USER = ("user_id", [1], "BYTES", None)
INT64 = struct.Struct("<q")
GRPC = {
    "wrong name": (grpc_request(("user", [1], "BYTES", None), raw=[GOOD]), "unknown tensor 'user'"),
    "datatype": (grpc_request(("user_id", [1], "FP32", None), raw=[GOOD]), "'FP32'; allowed: BYTE"),
    "no datatype": (grpc_request(("user_id", [1], "", None), raw=[GOOD]), "datatype ''; allowed"),
    "typed": (grpc_request(("user_id", [1], "FP32", [1.0])), "'FP32'; allowed: BYTES"),
    "shape": (grpc_request(("user_id", [1, 2], "BYTES", None), raw=[GOOD]), r"shape \[1, 2\]; all"),
    "no shape": (grpc_request(("user_id", [], "BYTES", None), raw=[GOOD]), r"shape \[\]; allowed"),
    "negative": (
        grpc_request(("history", [1, -1], "BYTES", None), raw=[GOOD]),
        "allowed: whole numbers from 0",
    ),
    "gigantic": (
        grpc_request(("history", [1, 2**62], "BYTES", None), raw=[GOOD]),
        f"allowed: up to {MAX_IDS}",
    ),
    "too few": (
        grpc_request(("history", [1, 2], "BYTES", None), raw=[GOOD]),
        r"history: its data does not fit shape \[1, 2\]",
    ),
    "too few, typed": (grpc_request(("user_id", [2], "BYTES", [b"1"])), "its shape asks for 2"),
    "cut off": (grpc_request(RAW_USER, raw=[GOOD[:-1]]), "its data does not fit"),
    "cut off early": (grpc_request(RAW_USER, raw=[GOOD[:2]]), "its data does not fit"),
    "length of an id": (
        grpc_request(RAW_USER, raw=[b"\xff\xff\xff\xff1"]),
        "its data does not fit",
    ),
    "left over": (grpc_request(RAW_USER, raw=[GOOD + b"x"]), "its data does not fit"),
    "not UTF-8": (grpc_request(RAW_USER, raw=[packed(b"\xff")]), r"b'\\xff' in row 0 is not UTF-8"),
    "no contents": (grpc_request(RAW_USER), "its data does not fit"),
    "contents without a tensor": (
        grpc_request(RAW_USER, raw=[GOOD, GOOD]),
        r"number of inputs \(1\) does not match .* raw input contents \(2\)",
    ),
    "both contents": (
        grpc_request(("user_id", [1], "BYTES", [b"196"]), raw=[GOOD]),
        "contents field must not be specified when using raw_input_contents",
    ),
    "rows": (
        grpc_request(("user_id", [TOO_MANY_ROWS], "BYTES", [b"1"] * TOO_MANY_ROWS)),
        f"{TOO_MANY_ROWS} rows; allowed: 1 to {MAX_BATCH_SIZE}",
    ),
    "ids": (
        grpc_request(("history", [1, MAX_IDS + 1], "BYTES", [b"1"] * (MAX_IDS + 1))),
        f"allowed: up to {MAX_IDS}",
    ),
    "k of 0": (
        grpc_request(RAW_USER, ("k", [1], "INT64", None), raw=[GOOD, INT64.pack(0)]),
        f"k: 0; {K_LIMIT}",
    ),
    "k beyond": (
        grpc_request(RAW_USER, ("k", [1], "INT64", None), raw=[GOOD, INT64.pack(2**62)]),
        K_LIMIT,
    ),
    "k of 4 bytes": (
        grpc_request(RAW_USER, ("k", [1], "INT64", None), raw=[GOOD, b"\1\0\0\0"]),
        "k: its data does not fit",
    ),
    "k datatype": (
        grpc_request(("user_id", [1], "BYTES", [b"1"]), ("k", [1], "FP32", [1.0])),
        "k: datatype 'FP32'; allowed: INT64, INT32",
    ),
    "output": (grpc_request(RAW_USER, raw=[GOOD], outputs=["no"]), "unknown tensor 'no'; allowed"),
    "nobody": (grpc_request(), NO_USER),
    "no message": (b"\xff\xff\xff", "not a ModelInferRequest"),
}
