"""uvicorn's servers within one event loop: the REST door and, where wanted, the side door."""

import asyncio
from contextlib import contextmanager
from typing import Any

import uvicorn

from serving.transformer.whole_answers import WholeAnswers


class HttpServer(uvicorn.Server):
    """One port. `stop` ends it after the requests under way, or after `grace_s` seconds."""

    def __init__(self, app: Any, host: str, port: int, grace_s: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=WholeAnswers,
                host=host,
                port=port,
                access_log=False,
                log_config=None,
                lifespan="off",
                timeout_keep_alive=300,  # longer than a gateway keeps its connections
                timeout_graceful_shutdown=int(grace_s),
            )
        )
        self._listening = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._listening.set()

    async def listening(self) -> None:
        """Return once the port takes connections. One that is taken ends the process."""
        await self._listening.wait()

    def stop(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield  # `serve` of __main__ has handlers that stop all servers


async def serve_all(servers: list[HttpServer]) -> None:
    """Listen with each in turn, so that the last one's port means that all are there; until they
    are stopped and the requests under way are answered."""
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(server.serve())
            await server.listening()
