"""From REST or gRPC to kserve's InferRequest; whatever is wrong with it is a BadRequest."""

import struct
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError
from kserve import InferRequest
from kserve.errors import InferenceError, InvalidInput
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.servicer import InferenceServicer

from serving.transformer.errors import BadRequest

LENGTH_HEADER = "inference-header-content-length"
_MALFORMED = (KeyError, TypeError, AttributeError, ValueError, IndexError, struct.error)


def decode_grpc(message: bytes) -> tuple[InferRequest, str]:
    """A serialised ModelInferRequest; also the version that it asks for, "" for any."""
    try:
        request = pb.ModelInferRequest.FromString(message)
    except DecodeError as error:
        raise BadRequest(f"the message is not a ModelInferRequest ({error})") from None
    try:
        InferenceServicer.validate_grpc_request(request)
        return InferRequest.from_grpc(request), request.model_version
    except (InvalidInput, InferenceError) as error:
        raise BadRequest(str(error)) from None
    except _MALFORMED as error:
        raise BadRequest(f"the request's tensors cannot be read ({error})") from None


def decode_rest(body: bytes, headers: Mapping[str, str], model_name: str) -> InferRequest:
    """A JSON body, with binary tensor data behind it where the length header says so."""
    length = _json_length(body, headers)
    try:
        request = InferRequest.from_bytes(body, length, model_name)
    except KeyError as error:
        raise BadRequest(f"the request's JSON lacks the field {error}") from None
    except (InvalidInput, InferenceError) as error:
        raise BadRequest(str(error)) from None
    except _MALFORMED as error:
        raise BadRequest(f"the request's JSON is not an inference request ({error})") from None
    _check_types(request)
    return request


def _json_length(body: bytes, headers: Mapping[str, str]) -> int:
    text = headers.get(LENGTH_HEADER)
    if text is None:
        return len(body)
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= len(body):
        raise BadRequest(
            f"header {LENGTH_HEADER}: {text!r:.40}; allowed: 1 to the body's {len(body)} bytes"
        )
    return int(text)


def _check_types(request: Any) -> None:
    """JSON says nothing of types: what the code after this takes for granted is checked here."""
    _require(request.id is None or isinstance(request.id, str), "id", "a string", request.id)
    _check_parameters("parameters", request.parameters)
    for place, tensor in enumerate([*request.inputs, *(request.request_outputs or [])]):
        where = f"tensor {place}"
        _require(isinstance(tensor.name, str), f"{where}: name", "a string", tensor.name)
        _check_parameters(f"{where}: parameters", tensor.parameters)
    for place, tensor in enumerate(request.inputs):
        shape = tensor.shape
        _require(isinstance(shape, list), f"tensor {place}: shape", "a list of numbers", shape)


def _check_parameters(where: str, value: Any) -> None:
    _require(value is None or isinstance(value, dict), where, "an object", value)


def _require(fits: bool, where: str, allowed: str, value: Any) -> None:
    if not fits:
        raise BadRequest(f"{where}: {value!r:.60}; allowed: {allowed}")
