"""HTTP/1.1 answers that leave in one piece.

uvicorn writes an answer's head and its body one after the other, and the event loop hands each to
the kernel at once. A process that is killed in between leaves its client with status 200 and no
body, which the gateway can neither repeat nor turn into an error: it has passed the head on.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class WholeAnswers(HttpToolsProtocol):
    """uvicorn's protocol on a transport that holds heads back."""

    def connection_made(self, transport: Any) -> None:
        joining: Any = _Joining(transport, self.loop)
        super().connection_made(joining)


class _Joining:
    """A transport that writes a head together with what follows, in the same step of the loop.

    At the end of the step the head goes alone: that of an answer to HEAD, which has no body.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
