"""The client for threads; `asynchronous` is the same for asyncio."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import grpc
from tritonclient.grpc import service_pb2_grpc

from serving.client.answers import Recommendations
from serving.client.connection import Headers, options, secure
from serving.client.core import Core
from serving.client.requests import Rows
from serving.client.retries import RetryPolicy


class RecommendClient:
    """Asks one endpoint; keeps its connection, and may be shared by threads.

    Args:
        url: host:port, with or without "http://"; "https://" for TLS.
        timeout_s: deadline of a call, over all of its attempts; it is sent along with each.
        retries: when an attempt that failed is made again.
        authority: the endpoint's host name, where `url` is only the way to it: gateways choose the
            endpoint by it (REST clients send it as Host).
        headers: sent with every request, such as {"x-api-key": ...} or {"authorization":
            "Bearer ..."}; a function is asked before each, for tokens that expire.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float = 10.0,
        retries: RetryPolicy | None = None,
        *,
        authority: str | None = None,
        headers: Headers | None = None,
    ) -> None:
        self._core = Core(url, timeout_s, retries, headers)
        if secure(url):
            self._channel = grpc.secure_channel(
                self._core.url, grpc.ssl_channel_credentials(), options=options(authority)
            )
        else:
            self._channel = grpc.insecure_channel(self._core.url, options=options(authority))
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
        """Close the connection; calls that wait for an answer fail."""
        self._channel.close()

    def recommend(
        self,
        history: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        k: int | None = None,
        *,
        user_id: str | None = None,
        history_times: Sequence[int] = (),
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Recommendations:
        """The best items for a user, without seen and excluded ones.

        Args:
            history: item ids, oldest first, in place of the stored ones.
            exclude: item ids that must not come back.
            k: how many; by default as many as the model version answers with.
            user_id: whose stored history is used where none is given. A bare Triton knows no
                users and no `k`.
            history_times: when each of `history` happened, whole seconds since 1970, 0 where
                unknown; for versions that read times (`model.time`), others pass over it.
            request_id: comes back with the answer, and stands in the endpoint's access log and
                traces.
            timeout_s: deadline of this call, in place of the client's.

        Raises:
            RecommendError: nothing answers, the deadline passed, or the request is refused.
            ValueError: neither `user_id` nor `history`.
        """
        (answer,) = self.recommend_batch(
            None if history is None else [history],
            [exclude] if exclude else None,
            k,
            user_ids=None if user_id is None else [user_id],
            history_times=[history_times] if history_times else None,
            request_id=request_id,
            timeout_s=timeout_s,
        )
        return answer

    def recommend_batch(
        self,
        histories: Rows | None = None,
        excludes: Rows | None = None,
        k: int | None = None,
        *,
        user_ids: Sequence[str] | None = None,
        history_times: Sequence[Sequence[int]] | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> list[Recommendations]:
        """One answer for each user or history, in one request; arguments as in `recommend`.

        Histories may have different lengths. A request holds at most 64 rows
        (serving.triton.max_batch_size).
        """
        call = self._core.begin(
            user_ids, histories, excludes, k, request_id, timeout_s, history_times
        )
        while call.rows:
            try:
                response, sent = self._infer.with_call(
                    call.request, timeout=call.next_timeout_s(), metadata=call.metadata
                )
            except grpc.RpcError as error:
                time.sleep(call.wait_after(error))
            else:
                return call.read(response, sent.initial_metadata())
        return []
