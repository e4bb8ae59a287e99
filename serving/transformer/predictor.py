"""The way to the Triton of this pod: its `recommend` ensemble, over gRPC."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

from serving.transformer.errors import RequestFailed
from serving.transformer.wire import pack_rows

_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    # Triton is on this machine: after a restart it should be found at once.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
_ATTEMPTS = 3


class Ranking(NamedTuple):
    """Triton's answer for B rows: BYTES [B, K] and FP32 [B, K], as they came."""

    item_ids: bytes
    scores: bytes
    width: int  # K


class Predictor:
    """Asks one Triton; waits for it while it is restarted.

    Args:
        address: host:port of its gRPC.
        model: the ensemble.
        timeout_s: longest that one answer may take, waiting included.
    """

    def __init__(self, address: str, model: str, timeout_s: float) -> None:
        self._address, self._model, self._timeout_s = address, model, timeout_s
        self._channel: Any = None
        self._infer: Any = None

    async def start(self) -> None:
        """Open the connection, within the event loop that will use it."""
        self._channel = grpc.aio.insecure_channel(self._address, options=_OPTIONS)
        self._infer = pb_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def rank(
        self,
        histories: Sequence[Sequence[bytes | str]],
        excludes: Sequence[Sequence[bytes]] | None,
        request_id: str,
        metadata: Sequence[tuple[str, str]] = (),
        time_left_s: float | None = None,
    ) -> Ranking:
        """The best items after each history.

        Args:
            time_left_s: what the client's own deadline leaves.

        Raises:
            RequestFailed: UNAVAILABLE or DEADLINE_EXCEEDED, saying whose time was over; INTERNAL
                if Triton refuses what it should not.
        """
        request = pb.ModelInferRequest(model_name=self._model, id=request_id)
        _add(request, "history", histories)
        if excludes is not None:
            _add(request, "exclude", excludes)
        response = await self._ask(request, metadata, time_left_s)
        if response.id != request_id:
            raise RequestFailed("Triton answered another request", "INTERNAL")
        raw = {
            output.name: content
            for output, content in zip(response.outputs, response.raw_output_contents, strict=True)
        }
        return Ranking(raw["item_ids"], raw["scores"], response.outputs[0].shape[1])

    async def answers(self, timeout_s: float = 2.0) -> bool:
        """Whether Triton answers a request: a server whose stub died still calls itself ready."""
        try:
            await asyncio.wait_for(self.rank([[]], None, "readiness"), timeout_s)
        except (RequestFailed, TimeoutError):
            return False
        return True

    async def _ask(
        self, request: Any, metadata: Sequence[tuple[str, str]], time_left_s: float | None
    ) -> Any:
        limit = self._timeout_s if time_left_s is None else min(time_left_s, self._timeout_s)
        end = time.monotonic() + limit
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._infer(
                    request,
                    timeout=max(end - time.monotonic(), 0.001),
                    metadata=metadata,
                    wait_for_ready=True,
                )
            except grpc.aio.AioRpcError as error:
                # The connection broke under the request. Inference changes nothing: asked again,
                # as soon as Triton is back.
                broke = error.code() == grpc.StatusCode.UNAVAILABLE
                if not broke or attempt == _ATTEMPTS or time.monotonic() >= end:
                    raise self._explain(error, time_left_s) from None
        raise AssertionError("unreachable")

    def _explain(self, error: Any, time_left_s: float | None) -> RequestFailed:
        code, details = error.code().name, str(error.details())[:300]
        if (
            code == "DEADLINE_EXCEEDED"
            and time_left_s is not None
            and time_left_s < self._timeout_s
        ):
            return RequestFailed("the request's deadline passed while Triton was asked", code)
        if code == "DEADLINE_EXCEEDED":
            return RequestFailed(
                f"Triton did not answer within {self._timeout_s:g} s "
                "(serving.transformer.predictor_timeout_s)",
                "UNAVAILABLE",
            )
        if code == "INVALID_ARGUMENT":  # requests are checked before: this is a fault of ours
            return RequestFailed(f"Triton refused a checked request: {details}", "INTERNAL")
        # A dead stub process, a model that is not loaded: better on another replica, or later.
        return RequestFailed(f"Triton cannot answer now ({code}: {details})", "UNAVAILABLE")


def _add(request: Any, name: str, rows: Sequence[Sequence[bytes | str]]) -> None:
    shape, content = pack_rows(rows)
    request.inputs.add(name=name, datatype="BYTES", shape=shape)
    request.raw_input_contents.append(content)
