"""gRPC: the Open Inference Protocol's service on kserve's servicer."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.servicer import InferenceServicer

from serving.transformer.answer import Answerer, failure
from serving.transformer.decode import decode_grpc
from serving.transformer.model import time_left_s

_SERVICE = "inference.GRPCInferenceService"
Handler = Callable[[Any, Any], Awaitable[Any]]


def create_server(dataplane: DataPlane, answerer: Answerer, address: str, max_bytes: int) -> Any:
    """A grpc.aio server, not started. Loading and unloading of models is not offered.

    kserve's own server listens on all addresses, logs every call, and answers INTERNAL or UNKNOWN
    to malformed messages and to some of its own errors.
    """
    servicer = InferenceServicer(dataplane, None)

    async def infer(message: bytes, context: Any) -> Any:
        # Decoded here, not by gRPC, whose answer to a malformed message is INTERNAL.
        with answerer.counted("grpc"):
            time_left_s.set(context.time_remaining())
            request, version = decode_grpc(message)
            headers = dict(context.invocation_metadata())
            return await answerer.answer(request.model_name, version, request, headers)

    def of_version(method: Handler) -> Handler:
        async def call(request: Any, context: Any) -> Any:
            answerer.require_version(request.version)
            return await method(request, context)

        return call

    methods = {
        "ModelInfer": (infer, None),
        "ServerLive": (servicer.ServerLive, pb.ServerLiveRequest),
        "ServerReady": (servicer.ServerReady, pb.ServerReadyRequest),
        "ServerMetadata": (servicer.ServerMetadata, pb.ServerMetadataRequest),
        "ModelReady": (of_version(servicer.ModelReady), pb.ModelReadyRequest),
        "ModelMetadata": (of_version(servicer.ModelMetadata), pb.ModelMetadataRequest),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            _explained(method),
            request_deserializer=kind.FromString if kind is not None else None,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for name, (method, kind) in methods.items()
    }
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),  # a port that is taken is an error, not shared
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_send_message_length", -1),
        ]
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    server.add_insecure_port(address)
    return server


def _explained(method: Handler) -> Handler:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await method(request, context)
        except Exception as error:
            found = failure(error)
        return await context.abort(grpc.StatusCode[found.code], str(found))

    return call
