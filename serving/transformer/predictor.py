"""The way to the Triton of this pod: its `recommend` ensemble, over gRPC."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Sequence
from typing import Any

import grpc
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

from feature_repo.online.batching import Batcher
from recommender.string_graphs import HISTORY_TIMES
from serving.transformer import metrics
from serving.transformer.errors import RequestFailed
from serving.transformer.merging import Job, Ranking, room_for
from serving.transformer.wire import pack_rows, pack_times, split_rows

_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    # Triton is on this machine: after a restart it should be found at once.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
# Once more, no oftener: a request that kills its server must not go on doing so.
_ATTEMPTS = 2
_MAX_ID = 512


class Predictor:
    """Asks one Triton; waits for it while it is restarted.

    Args:
        address: host:port of its gRPC.
        model: the ensemble.
        timeout_s: longest that one answer may take, waiting included.
        concurrency: requests to it under way at once; what comes meanwhile is merged.
        max_rows: most rows that one request may have.
    """

    def __init__(
        self, address: str, model: str, timeout_s: float, concurrency: int, max_rows: int
    ) -> None:
        self._address, self._model, self._timeout_s = address, model, timeout_s
        self._requests: Batcher[Job, Ranking] = Batcher(
            self._send_waiting, concurrency, room_for(max_rows), stoppable=True
        )
        self._channel: Any = None
        self._infer: Any = None

    async def start(self) -> None:
        """Open the connection, within the event loop that will use it."""
        self._channel = grpc.aio.insecure_channel(self._address, options=_OPTIONS)
        self._infer = pb_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer

    async def close(self) -> None:
        self._requests.close(RequestFailed("the transformer is stopping", "UNAVAILABLE"))
        if self._channel is not None:
            await self._channel.close()

    async def rank(self, job: Job, time_left_s: float | None = None) -> Ranking:
        """The best items after each history of the job.

        Args:
            time_left_s: what the client's own deadline leaves.

        Raises:
            RequestFailed: UNAVAILABLE or DEADLINE_EXCEEDED, saying whose time was over; INTERNAL
                if Triton refuses what it should not.
        """
        limit = self._timeout_s if time_left_s is None else min(time_left_s, self._timeout_s)
        try:
            async with asyncio.timeout(limit):
                (ranking,) = await self._requests.ask([job])
                return ranking
        except TimeoutError:
            if limit < self._timeout_s:
                raise RequestFailed(
                    "the request's deadline passed while Triton was asked", "DEADLINE_EXCEEDED"
                ) from None
            raise self._late() from None

    async def answers(self, timeout_s: float = 2.0) -> bool:
        """Whether Triton answers a request: a server whose stub died still calls itself ready."""
        unknown = f"readiness-{uuid.uuid4().hex}"  # an answer from a cache would prove nothing
        try:
            await asyncio.wait_for(self._send([Job([[unknown]], None, "readiness")]), timeout_s)
        except (RequestFailed, TimeoutError):
            return False
        return True

    async def _send_waiting(self, jobs: Sequence[Job]) -> list[Ranking]:
        now = time.perf_counter()
        for job in jobs:
            if job.of_client:
                metrics.QUEUE_SECONDS.observe(now - job.asked)
        return await self._send(jobs)

    async def _send(self, jobs: Sequence[Job]) -> list[Ranking]:
        """All jobs as one request."""
        counts = [job.rows for job in jobs]
        metrics.PREDICTOR_ROWS.observe(sum(counts))
        request_id = ",".join(job.request_id for job in jobs)[:_MAX_ID]
        request = pb.ModelInferRequest(model_name=self._model, id=request_id)
        _add(request, "history", [row for job in jobs for row in job.histories])
        if any(job.excludes is not None for job in jobs):
            rows = [row for job in jobs for row in job.excludes or [[]] * job.rows]
            _add(request, "exclude", rows)
        if any(job.times is not None for job in jobs):
            times = [row for job in jobs for row in job.times or [None] * job.rows]
            shape, content = pack_times(times, request.inputs[0].shape[1])
            request.inputs.add(name=HISTORY_TIMES, datatype="INT64", shape=shape)
            request.raw_input_contents.append(content)
        response = await self._ask(request, jobs[0].metadata)
        if response.id != request_id:
            raise RequestFailed("Triton answered another request", "INTERNAL")
        raw = {
            output.name: content
            for output, content in zip(response.outputs, response.raw_output_contents, strict=True)
        }
        width = response.outputs[0].shape[1]
        ends = [4 * width * end for end in itertools.accumulate(counts)]
        scores = [raw["scores"][begin:end] for begin, end in itertools.pairwise([0, *ends])]
        items = split_rows(raw["item_ids"], counts, width)
        return [Ranking(ids, of_them, width) for ids, of_them in zip(items, scores, strict=True)]

    async def _ask(self, request: Any, metadata: Sequence[tuple[str, str]]) -> Any:
        end = time.monotonic() + self._timeout_s
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
                    raise self._explain(error) from None
        raise AssertionError("unreachable")

    def _explain(self, error: Any) -> RequestFailed:
        code, details = error.code().name, str(error.details())[:300]
        if code == "DEADLINE_EXCEEDED":
            return self._late()
        if code == "INVALID_ARGUMENT":  # requests are checked before: this is a fault of ours
            return RequestFailed(f"Triton refused a checked request: {details}", "INTERNAL")
        # A dead stub process, a model that is not loaded: better on another replica, or later.
        return RequestFailed(f"Triton cannot answer now ({code}: {details})", "UNAVAILABLE")

    def _late(self) -> RequestFailed:
        return RequestFailed(
            f"Triton did not answer within {self._timeout_s:g} s "
            "(serving.transformer.predictor_timeout_s)",
            "UNAVAILABLE",
        )


def _add(request: Any, name: str, rows: Sequence[Sequence[bytes | str]]) -> None:
    shape, content = pack_rows(rows)
    request.inputs.add(name=name, datatype="BYTES", shape=shape)
    request.raw_input_contents.append(content)
