"""The model that clients see: `recommend`, by user id."""

import asyncio
import contextvars
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.model import InferenceVerb
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from serving.transformer import metrics
from serving.transformer.admission import Admission
from serving.transformer.features import FeatureSource, FeatureStatus, UserFeatures
from serving.transformer.merging import Job, Ranking
from serving.transformer.predictor import Predictor
from serving.transformer.request import INPUTS, OUTPUTS, Ask, Limits, read_request
from serving.transformer.request_log.entry import Entry
from serving.transformer.request_log.log import RequestLog
from serving.transformer.sample import RequestSample
from serving.transformer.tracing import Tracing
from serving.transformer.wire import first_columns, pack, short_rows, unpack

# What the deadline of the request under way leaves, in seconds; None without one.
time_left_s: contextvars.ContextVar[float | None] = contextvars.ContextVar(
    "time_left_s", default=None
)
_FORWARDED = ("x-request-id", "traceparent", "tracestate")
# All of them together stay below the 8 KiB of metadata from which on gRPC, in Triton, may refuse.
_MAX_FORWARDED = 1024


class Prepared(NamedTuple):
    """A request with the features that it is answered from."""

    request: InferRequest
    ask: Ask
    users: list[UserFeatures]
    moments: "Moments | None" = None  # of a request that is logged


class Moments(NamedTuple):
    """When things happened, for the request log."""

    received_us: int  # since 1970
    as_of_us: int  # when the features had been read
    began: float  # by time.perf_counter


class Answered(NamedTuple):
    """A prepared request with Triton's ranking."""

    prepared: Prepared
    ranking: Ranking


class RecommendModel(Model):
    """user ids ─ Feast ─▶ histories ─ Triton ─▶ items; kserve's three stages, in its names.

    Args:
        name: of the model on the wire, and of Triton's ensemble.
        version: model version id, answered as `model_version`.
        limits: what a request may ask.
        features: the online store, with deadline and freshness.
        predictor: the Triton of this pod.
        admission: how much is taken on at once.
        sample: what keeps some of the clients' requests.
        log: what writes some of them down with their answers.
        check_predictor: whether being ready includes that Triton answers.
        reads_times: whether the version reads the times of a history's events.
    """

    def __init__(
        self,
        name: str,
        version: str,
        limits: Limits,
        features: FeatureSource,
        predictor: Predictor,
        tracing: Tracing,
        admission: Admission,
        sample: RequestSample,
        log: RequestLog,
        check_predictor: bool = True,
        reads_times: bool = False,
    ) -> None:
        super().__init__(name)
        self._admission, self._sample, self._log = admission, sample, log
        self.version, self.limits = version, limits
        self._features, self._predictor, self._tracing = features, predictor, tracing
        self._check_predictor, self._reads_times = check_predictor, reads_times

    async def start_parts(self, patience_s: float = 15.0) -> None:
        """Connect to Triton and open the feature store, in the loop that serves.

        Returns when the first attempt to open the store has ended: after a restart, users are not
        answered as unknown ones for as long as the store's libraries take to load. A store that
        hangs is not waited for longer than `patience_s`.
        """
        await self._predictor.start()
        await self._features.start()
        end = asyncio.get_running_loop().time() + patience_s
        while self._features.opening and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.01)
        self.ready = True

    async def stop_parts(self) -> None:
        self.ready = False
        await self._features.close()
        await self._predictor.close()
        await self._log.close()

    async def answers(self) -> bool:
        """Ready means that a request would be answered: Triton is asked one.

        Not kserve's `healthy`, which is called before every inference. A feature store that cannot
        be opened is no hindrance: a request is answered without it.
        """
        if not self.ready:
            return False
        return not self._check_predictor or await self._predictor.answers()

    async def __call__(
        self,
        body: Any,
        headers: Any = None,
        verb: InferenceVerb = InferenceVerb.PREDICT,
    ) -> Any:
        """kserve's stages, one after the other, if there is room."""
        with self._admission.room(self._rows(body)):
            return await super().__call__(body, headers, verb)

    def _rows(self, request: Any) -> int:
        """Rows that a request claims to have, before anything of it is checked."""
        claimed = next((tensor.shape for tensor in request.inputs if tensor.shape), [1])[0]
        return min(claimed, self.limits.max_rows) if isinstance(claimed, int) and claimed > 0 else 1

    def validate(self, payload: Any) -> Any:
        return payload  # `preprocess` has checked it, and this is its result

    async def preprocess(
        self, payload: InferRequest, headers: Mapping[str, str] | None = None
    ) -> Prepared:
        """Check the request and find the users' features.

        Raises:
            RequestFailed: INVALID_ARGUMENT, or what the freshness policy refuses.
        """
        received_us, began = time.time_ns() // 1000, time.perf_counter()
        logged = metrics.of_client.get() and self._log.on
        with metrics.timed("parse"):
            ask = read_request(payload, self.limits)
            if metrics.of_client.get():
                self._sample.offer(ask)
        logged = logged and self._log.takes(_request_id(payload, headers))
        if ask.history is not None:
            metrics.count(metrics.LOOKUPS.labels(FeatureStatus.GIVEN), ask.rows)
            users = [UserFeatures(row, -1.0, FeatureStatus.GIVEN) for row in ask.history]
            given = Moments(received_us, received_us, began) if logged else None
            return Prepared(payload, ask, users, given)
        assert ask.user_ids is not None
        with metrics.timed("features"), self._tracing.span("features", {"users": ask.rows}):
            users = await self._features.lookup(ask.user_ids)
        moments = Moments(received_us, time.time_ns() // 1000, began) if logged else None
        return Prepared(payload, ask, users, moments)

    async def predict(
        self, payload: Prepared, headers: Mapping[str, str] | None = None
    ) -> Answered:
        """Ask Triton for the ranking."""
        with metrics.timed("predictor"), self._tracing.span("triton", {"rows": payload.ask.rows}):
            metadata = [(key, value) for key in _FORWARDED if (value := _carried(headers, key))]
            outgoing = self._tracing.outgoing(metadata)
            job = Job(
                [user.history for user in payload.users],
                payload.ask.exclude,
                _request_id(payload.request, headers),
                [pair for pair in outgoing if len(pair[1]) <= _MAX_FORWARDED],
                metrics.of_client.get(),
                self._times(payload) if self._reads_times else None,
            )
            ranking = await self._predictor.rank(job, time_left_s.get())
        return Answered(payload, ranking)

    def _times(self, payload: Prepared) -> list[Sequence[int] | None]:
        """Seconds of each event: the stored ones are cut as training's are."""
        if payload.ask.history is not None:
            given = payload.ask.times
            return [None if given is None else given[row] for row in range(payload.ask.rows)]
        return [
            None if user.times is None else [each // 1_000_000 for each in user.times]
            for user in payload.users
        ]

    async def postprocess(
        self,
        result: Answered,
        headers: Mapping[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> Any:
        """The answer: a gRPC message for a gRPC request, else kserve's InferResponse."""
        with metrics.timed("build"):
            (request, ask, users, moments), ranking = result.prepared, result.ranking
            columns = ranking.width if ask.k is None else min(ask.k, ranking.width)
            item_ids = first_columns(ranking.item_ids, ask.rows, ranking.width, columns)
            wanted = self.limits.max_k if ask.k is None else ask.k
            short = ask.rows if columns < wanted else short_rows(item_ids, columns)
            metrics.count(metrics.SHORT_ANSWERS, short)
            contents = {
                "item_ids": item_ids,
                "scores": _first_scores(ranking.scores, ranking.width, columns),
                "feature_age_seconds": np.array([u.age_s for u in users]).astype("<f8").tobytes(),
                "feature_status": pack(u.status for u in users),
            }
            tensors = [
                (name, *_described(name, ask.rows, columns), contents[name]) for name in ask.outputs
            ]
            answer = (
                self._grpc(request, tensors) if request.from_grpc else self._rest(request, tensors)
            )
        if moments is not None:
            latency_ms = (time.perf_counter() - moments.began) * 1e3
            name, view = _request_id(request, headers), self._features.view
            times = moments.received_us, moments.as_of_us
            self._log.offer(Entry(name, ask, users, ranking, *times, latency_ms, view))
        return answer

    def _grpc(self, request: InferRequest, tensors: Sequence[Any]) -> pb.ModelInferResponse:
        response = pb.ModelInferResponse(
            id=request.id, model_name=self.name, model_version=self.version
        )
        for name, datatype, shape, content in tensors:
            response.outputs.add(name=name, datatype=datatype, shape=shape)
            response.raw_output_contents.append(content)
        return response

    def _rest(self, request: InferRequest, tensors: Sequence[Any]) -> InferResponse:
        outputs = []
        for name, datatype, shape, content in tensors:
            output = InferOutput(name, shape, datatype)
            output.set_data_from_numpy(_array(datatype, shape, content), binary_data=False)
            outputs.append(output)
        return InferResponse(
            response_id=request.id,
            model_name=self.name,
            model_version=self.version,
            infer_outputs=outputs,
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )

    def get_input_types(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "datatype": datatypes[0], "shape": shape}
            for name, (datatypes, shape) in INPUTS.items()
        ]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "datatype": datatype, "shape": shape}
            for name, (datatype, shape) in OUTPUTS.items()
        ]


def _request_id(request: InferRequest, headers: Mapping[str, str] | None) -> str:
    """Of the message, else of the HTTP request; "" where the client gave none."""
    return str(request.id or (headers or {}).get("x-request-id", ""))


def _carried(headers: Mapping[str, str] | None, key: str) -> str:
    """A header's value, if gRPC can carry it: HTTP allows more characters. Else ""."""
    value = (headers or {}).get(key, "")
    return value if value.isascii() and value.isprintable() else ""


def _described(name: str, rows: int, columns: int) -> tuple[str, list[int]]:
    datatype, shape = OUTPUTS[name]
    return datatype, [rows, columns] if len(shape) == 2 else [rows]


def _first_scores(content: bytes, width: int, columns: int) -> bytes:
    if columns == width:
        return content
    return np.frombuffer(content, dtype="<f4").reshape(-1, width)[:, :columns].tobytes()


def _array(datatype: str, shape: Sequence[int], content: bytes) -> np.ndarray:
    if datatype == "BYTES":
        return np.array(unpack(content), dtype=np.object_).reshape(shape)
    return np.frombuffer(content, dtype={"FP32": "<f4", "FP64": "<f8"}[datatype]).reshape(shape)
