"""A client of the `recommend` endpoint: item ids in, item ids out, over gRPC.

REST clients post the same tensors as JSON to /v2/models/recommend/infer on the same port.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from recommender.errors import KuberecError
from recommender.schema import MASKED_SCORE
from serving.embedded.routes import VERSION_HEADER
from serving.triton.repository import ENSEMBLE


class RecommendError(KuberecError):
    """No answer: `code` is gRPC's status name, such as UNAVAILABLE or DEADLINE_EXCEEDED."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Recommendations(NamedTuple):
    """One user's answer, best first."""

    item_ids: list[str]
    scores: list[float]
    version: str | None  # the model version that answered, as the gateway names it


class RecommendClient:
    """Asks one endpoint; keeps its connection, and may be shared by threads.

    Args:
        url: host:port, with or without "http://".
        timeout_s: the deadline of every request, sent along with it.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self.url = url.rpartition("://")[2].rstrip("/")
        self.timeout_s = timeout_s
        self._channel = grpc.insecure_channel(self.url, options=[("grpc.enable_http_proxy", 0)])
        self._infer = service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def recommend(
        self, history: Sequence[str], exclude: Sequence[str] = (), k: int | None = None
    ) -> Recommendations:
        """The best items after `history` (oldest first), without seen and excluded ones.

        Args:
            k: how many; by default as many as the model version answers with.

        Raises:
            RecommendError: nothing answers, the deadline passed, or the request is refused.
            ValueError: k is more than the model version answers with.
        """
        return self.recommend_batch([history], [exclude] if exclude else None, k)[0]

    def recommend_batch(
        self,
        histories: Sequence[Sequence[str]],
        excludes: Sequence[Sequence[str]] | None = None,
        k: int | None = None,
    ) -> list[Recommendations]:
        """One answer for each history, in one request; lengths may differ."""
        if not histories:
            return []
        if excludes is not None and len(excludes) != len(histories):
            raise ValueError(f"{len(excludes)} lists to exclude for {len(histories)} histories")
        request = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
        _add(request, "history", histories)
        if excludes is not None:
            _add(request, "exclude", excludes)
        try:
            response, call = self._infer.with_call(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            raise self._explain(error) from error
        version = dict(call.initial_metadata()).get(VERSION_HEADER)
        return _answers(response, version, k)

    def _explain(self, error: Any) -> RecommendError:
        code = error.code().name
        hint = {
            "UNAVAILABLE": f"nothing answers at {self.url}; `kuberec serve` starts the endpoint",
            "DEADLINE_EXCEEDED": f"{self.url} did not answer within {self.timeout_s:g} s",
        }.get(code, f"{self.url} refused the request")
        return RecommendError(f"{hint} ({code}: {error.details()})", code)


def _add(request: Any, name: str, rows: Sequence[Sequence[str]]) -> None:
    """Add lists of ids as one BYTES tensor [B, longest], padded with "", which servers skip."""
    width = max(1, *(len(row) for row in rows))
    table = np.full((len(rows), width), b"", dtype=object)
    for row, ids in zip(table, rows, strict=True):
        row[: len(ids)] = [item.encode() for item in ids]
    request.inputs.add(name=name, datatype="BYTES", shape=table.shape)
    request.raw_input_contents.append(serialize_byte_tensor(table).item())


def _answers(response: Any, version: str | None, k: int | None) -> list[Recommendations]:
    names = [output.name for output in response.outputs]
    raw = dict(zip(names, response.raw_output_contents, strict=True))
    shape = tuple(response.outputs[0].shape)
    if k is not None and not 1 <= k <= shape[1]:
        raise ValueError(f"k must be 1 to {shape[1]}, as this model version answers, not {k}")
    ids_BK = deserialize_bytes_tensor(raw["item_ids"]).reshape(shape)
    scores_BK = np.frombuffer(raw["scores"], dtype="<f4").reshape(shape)
    answers = []
    for ids, scores in zip(ids_BK, scores_BK, strict=True):
        kept = [
            (item.decode(), float(score))
            for item, score in zip(ids, scores, strict=True)
            if item and score > MASKED_SCORE
        ][:k]
        answers.append(Recommendations([i for i, _ in kept], [s for _, s in kept], version))
    return answers
