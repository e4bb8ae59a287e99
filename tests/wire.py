"""Requests of the Open Inference Protocol made by hand, also such as no client would send."""

import http.client
import json
import struct
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import grpc
from tritonclient.grpc import service_pb2

INFER = "/v2/models/recommend/infer"
JSON_LENGTH = "inference-header-content-length"
TIMEOUT_S = 10.0
_CONTENTS = {
    "BYTES": "bytes_contents",
    "INT64": "int64_contents",
    "INT32": "int_contents",
    "FP32": "fp32_contents",
}


class Answer(NamedTuple):
    """What came back: HTTP status or gRPC status name, and the reason or the outputs."""

    code: int | str
    reason: str  # "" where it was answered
    outputs: dict[str, Any]


class Wire:
    """Kept connections to one endpoint, over both protocols."""

    def __init__(self, url: str) -> None:
        self._http = http.client.HTTPConnection(url, timeout=TIMEOUT_S)
        self._channel = grpc.insecure_channel(url, options=[("grpc.enable_http_proxy", 0)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()
        self._channel.close()

    def rest(
        self,
        body: Any,
        headers: Mapping[str, str] | None = None,
        path: str = INFER,
        method: str = "POST",
    ) -> Answer:
        """A request with `body` as it is, if it is bytes, else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._http.request(
            method, path, raw, {"content-type": "application/json", **(headers or {})}
        )
        response = self._http.getresponse()
        content = response.read()
        length = int(response.headers.get(JSON_LENGTH, len(content)))
        answer = json.loads(content[:length])
        if response.status != 200:
            return Answer(response.status, answer["error"], {})
        outputs = {each["name"]: each.get("data") for each in answer["outputs"]}
        return Answer(200, "", outputs)

    def grpc(self, message: Any, method: str = "ModelInfer") -> Answer:
        """A call with `message`: bytes as they are, or a ModelInferRequest."""
        raw = message if isinstance(message, bytes) else message.SerializeToString()
        call = self._channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        try:
            response = service_pb2.ModelInferResponse.FromString(call(raw, timeout=TIMEOUT_S))
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details(), {})
        outputs = zip(response.outputs, response.raw_output_contents, strict=True)
        return Answer("OK", "", {output.name: raw for output, raw in outputs})


def tensor(
    name: Any, shape: Any, data: Any = None, datatype: Any = "BYTES", **parameters: Any
) -> dict[str, Any]:
    """An input of a REST request; without `data`, parameters say where it is."""
    made = {"name": name, "shape": shape, "datatype": datatype}
    made |= {} if data is None else {"data": data}
    return made | ({"parameters": parameters} if parameters else {})


def rest_request(*tensors: Any, **fields: Any) -> dict[str, Any]:
    """The body of a REST request."""
    return {"inputs": list(tensors), **fields}


def binary_body(request: Any, *parts: bytes) -> tuple[bytes, dict[str, str]]:
    """A REST body with binary data behind its JSON, and the header that says where it begins."""
    head = json.dumps(request).encode()
    return head + b"".join(parts), {JSON_LENGTH: str(len(head))}


def grpc_request(
    *tensors: tuple[str, Sequence[int], str, Sequence[Any] | None],
    raw: Sequence[bytes] = (),
    outputs: Sequence[str] = (),
    model: str = "recommend",
    version: str = "",
) -> Any:
    """A ModelInferRequest of tensors (name, shape, datatype, typed contents or None)."""
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for name, shape, datatype, contents in tensors:
        made = request.inputs.add(name=name, datatype=datatype, shape=shape)
        if contents is not None:
            getattr(made.contents, _CONTENTS[datatype]).extend(contents)
    request.raw_input_contents.extend(raw)
    for name in outputs:
        request.outputs.add(name=name)
    return request


def packed(*ids: bytes) -> bytes:
    """Raw contents of a BYTES tensor."""
    return b"".join(struct.pack("<I", len(each)) + each for each in ids)
