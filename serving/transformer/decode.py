"""From REST or gRPC to kserve's InferRequest; whatever is wrong with it is a BadRequest."""

import struct
from collections.abc import Mapping
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from kserve import InferInput, InferRequest
from kserve.errors import InferenceError, InvalidInput
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.infer_type import RequestedOutput

from serving.transformer.errors import BadRequest
from serving.transformer.request import check_tensor

LENGTH_HEADER = "inference-header-content-length"
_MALFORMED = (KeyError, TypeError, AttributeError, ValueError, IndexError, struct.error)


def decode_grpc(message: bytes) -> tuple[InferRequest, str]:
    """A serialised ModelInferRequest; also the version that it asks for, "" for any."""
    try:
        request = pb.ModelInferRequest.FromString(message)
    except DecodeError as error:
        raise BadRequest(f"the message is not a ModelInferRequest ({error})") from None
    for tensor in request.inputs:  # before kserve, which does not say which tensor it means
        check_tensor(tensor.name, tensor.datatype)
    try:
        InferenceServicer.validate_grpc_request(request)
        return InferRequest.from_grpc(request), request.model_version
    except (InvalidInput, InferenceError) as error:
        raise BadRequest(str(error)) from None
    except _MALFORMED as error:
        raise BadRequest(f"the request's tensors cannot be read ({error})") from None


def decode_rest(body: bytes, headers: Mapping[str, str], model_name: str) -> InferRequest:
    """A JSON body, with binary tensor data behind it where the length header says so."""
    encoding = headers.get("content-encoding", "identity")
    _require(encoding == "identity", "header content-encoding", "none", encoding)
    length = _json_length(body, headers)
    try:
        fields = orjson.loads(body[:length])
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON ({error})") from None
    _require(isinstance(fields, dict), "the body", "a JSON object with 'inputs'", fields)
    binary = _Binary(body, length)
    request = InferRequest(
        model_name,
        [
            _read_input(f"inputs[{place}]", each, binary)
            for place, each in enumerate(_objects(fields, "inputs"))
        ],
        request_id=fields.get("id"),
        parameters=_read_parameters("parameters", fields),
        request_outputs=[
            _read_output(f"outputs[{place}]", each)
            for place, each in enumerate(_objects(fields, "outputs"))
        ]
        or None,
    )
    _require(request.id is None or isinstance(request.id, str), "id", "a string", request.id)
    if binary.left:
        raise BadRequest(f"the body has {binary.left} bytes more than its tensors' data")
    return request


class _Binary:
    """The bytes behind the JSON, handed out tensor by tensor."""

    def __init__(self, body: bytes, start: int) -> None:
        self._body, self._at = body, start

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def take(self, where: str, size: Any) -> bytes:
        whole = isinstance(size, int) and not isinstance(size, bool)
        _require(whole, f"{where}: binary_data_size", "a number of bytes", size)
        if not 0 <= size <= self.left:
            raise BadRequest(f"{where}: binary_data_size {size}; allowed: 0 to {self.left}")
        self._at += size
        return self._body[self._at - size : self._at]


def _objects(fields: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = fields.get(name)
    if found is None:
        return []
    _require(isinstance(found, list), name, "a list of tensors", found)
    for place, each in enumerate(found):
        _require(isinstance(each, dict), f"{name}[{place}]", "an object", each)
    return list(found)


def _read_input(where: str, fields: dict[str, Any], binary: _Binary) -> InferInput:
    name, datatype, shape = (fields.get(field) for field in ("name", "datatype", "shape"))
    _require(isinstance(name, str), f"{where}: name", "a string", name)
    where = f"{where} ({name:.80})"
    _require(isinstance(datatype, str), f"{where}: datatype", "a string", datatype)
    _require(isinstance(shape, list), f"{where}: shape", "a list of numbers", shape)
    parameters = _read_parameters(f"{where}: parameters", fields)
    data = fields.get("data")
    tensor = InferInput(name, shape, datatype, data, parameters)
    if data is None:
        size = (parameters or {}).get("binary_data_size")
        if size is None:
            raise BadRequest(f"{where}: it has neither 'data' nor a binary_data_size")
        tensor._raw_data = binary.take(where, size)  # as kserve's own decoder does
    return tensor


def _read_output(where: str, fields: dict[str, Any]) -> RequestedOutput:
    name = fields.get("name")
    _require(isinstance(name, str), f"{where}: name", "a string", name)
    return RequestedOutput(name, _read_parameters(f"{where}: parameters", fields))


def _read_parameters(where: str, fields: dict[str, Any]) -> dict[str, Any] | None:
    found = fields.get("parameters")
    _require(found is None or isinstance(found, dict), where, "an object", found)
    return found


def _json_length(body: bytes, headers: Mapping[str, str]) -> int:
    text = headers.get(LENGTH_HEADER)
    if text is None:
        return len(body)
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= len(body):
        raise BadRequest(
            f"header {LENGTH_HEADER}: {text!r:.40}; allowed: 1 to the body's {len(body)} bytes"
        )
    return int(text)


def _require(fits: bool, where: str, allowed: str, value: Any) -> None:
    """JSON says nothing of types: what the code after this takes for granted is checked."""
    if not fits:
        raise BadRequest(f"{where}: {value!r:.60}; allowed: {allowed}")
