"""The load generator: a fixed number of requests in flight, over gRPC or HTTP, closed loop.

Each of the N senders makes its next request when it has its answer. Requests are prebuilt bytes and
answers stay bytes, so that little of the measured time is this process's own. A closed loop does
not see the queue that an open one would; it is the same for every system.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import grpc
import numpy as np

from benchmarks.worker import Sample, serve_orders

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_TIMEOUT_S = 10.0
_CONNECTIONS = 4  # for gRPC; a gateway's threads share work by connection
_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
Send = Callable[[bytes], Awaitable[str | None]]  # a request; the error's code, or None


def prepare(targets: dict[str, dict[str, Any]]) -> Callable[..., Sample]:
    """Targets by name: {kind: "grpc" or "http", address, path (http), requests: [hex, ...]}."""
    requests = {
        name: [bytes.fromhex(each) for each in target["requests"]]
        for name, target in targets.items()
    }

    def measure(target: str, in_flight: int, seconds: float, warm_s: float) -> Sample:
        one = _over_grpc if targets[target]["kind"] == "grpc" else _over_http
        return asyncio.run(
            one(targets[target], _Loop(requests[target], in_flight, seconds, warm_s))
        )

    return measure


class _Loop:
    """`in_flight` senders for some seconds; what the first `warm_s` of them saw is not kept."""

    def __init__(
        self, requests: list[bytes], in_flight: int, seconds: float, warm_s: float
    ) -> None:
        self.requests, self.in_flight = requests, in_flight
        self.seconds, self.warm_s = seconds, warm_s

    async def run(self, senders: list[Send]) -> Sample:
        latencies: list[float] = []
        errors: dict[str, int] = {}
        requests = 0
        clock = time.perf_counter
        start = clock() + self.warm_s
        end = start + self.seconds

        async def sender(number: int) -> None:
            nonlocal requests
            send = senders[number % len(senders)]
            place = number * 7919  # every sender begins elsewhere
            while (began := clock()) < end:
                place += 1
                requests += 1
                error = await send(self.requests[place % len(self.requests)])
                if began < start:
                    continue
                if error is None:
                    latencies.append((clock() - began) * 1e3)
                else:
                    errors[error] = errors.get(error, 0) + 1

        await asyncio.gather(*(sender(number) for number in range(self.in_flight)))
        # Those begun before the end are waited for and counted, over the time that it took.
        return Sample(np.array(latencies, dtype="<f4"), errors, clock() - start, requests)


async def _over_grpc(target: dict[str, Any], loop: _Loop) -> Sample:
    channels = [
        grpc.aio.insecure_channel(target["address"], options=_OPTIONS)
        for _ in range(min(_CONNECTIONS, loop.in_flight))
    ]

    def sender(channel: Any) -> Send:
        call = channel.unary_unary(_METHOD)  # without a serialiser: bytes in, bytes out

        async def send(request: bytes) -> str | None:
            try:
                await call(request, timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                return str(error.code().name)
            return None

        return send

    try:
        return await loop.run([sender(channel) for channel in channels])
    finally:
        for channel in channels:
            await channel.close()


async def _over_http(target: dict[str, Any], loop: _Loop) -> Sample:
    url = f"http://{target['address']}{target['path']}"
    headers = {"content-type": "application/json"}
    limit = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, timeout=limit, headers=headers
    ) as session:

        async def send(request: bytes) -> str | None:
            try:
                async with session.post(url, data=request) as response:
                    await response.read()
                    return None if response.status == 200 else str(response.status)
            except (aiohttp.ClientError, TimeoutError) as error:
                return type(error).__name__

        return await loop.run([send])


if __name__ == "__main__":
    serve_orders(prepare)
