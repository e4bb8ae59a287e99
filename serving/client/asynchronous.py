"""The client for asyncio; `blocking` is the same for threads."""

import asyncio
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


class AsyncRecommendClient:
    """Asks one endpoint; keeps its connection for any number of requests at a time.

    To be made within the event loop that uses it. Arguments, answers and errors are those of
    `RecommendClient`; a cancelled call ends its request at the server too.
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
            self._channel = grpc.aio.secure_channel(
                self._core.url, grpc.ssl_channel_credentials(), options=options(authority)
            )
        else:
            self._channel = grpc.aio.insecure_channel(self._core.url, options=options(authority))
        self._infer = service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelInfer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls that wait for an answer fail."""
        await self._channel.close()

    async def recommend(
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
        """The best items for a user: `RecommendClient.recommend`."""
        (answer,) = await self.recommend_batch(
            None if history is None else [history],
            [exclude] if exclude else None,
            k,
            user_ids=None if user_id is None else [user_id],
            history_times=[history_times] if history_times else None,
            request_id=request_id,
            timeout_s=timeout_s,
        )
        return answer

    async def recommend_batch(
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
        """One answer for each user or history: `RecommendClient.recommend_batch`."""
        call = self._core.begin(
            user_ids, histories, excludes, k, request_id, timeout_s, history_times
        )
        while call.rows:
            sent = self._infer(call.request, timeout=call.next_timeout_s(), metadata=call.metadata)
            try:
                response = await sent
            except grpc.RpcError as error:
                await asyncio.sleep(call.wait_after(error))
            else:
                return call.read(response, await sent.initial_metadata())
        return []
