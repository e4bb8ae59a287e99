"""Fakes of feature_repo.online.reader.OnlineReader, for what a real store does only rarely."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from feature_repo.online.reader import StoredFeatures
from serving.settings import TransformerConfig
from serving.transformer.features import FeatureSource

NOW = 1_750_000_000.0
ROWS = {
    "fresh": StoredFeatures(["a", "b"], NOW - 10),
    "old": StoredFeatures(["c"], NOW - 5000),
    "ahead": StoredFeatures(["d"], NOW + 60),
    "null": StoredFeatures([], NOW - 20),
}
Read = Callable[[Sequence[str]], Awaitable[list[StoredFeatures]]]


async def stored(user_ids: Sequence[str]) -> list[StoredFeatures]:
    return [ROWS.get(user, StoredFeatures([], None)) for user in user_ids]


async def hangs(user_ids: Sequence[str]) -> list[StoredFeatures]:
    await asyncio.Event().wait()
    raise AssertionError


async def breaks(user_ids: Sequence[str]) -> list[StoredFeatures]:
    raise OSError("disk I/O error")


class FakeReader:
    view = "user_history"

    def __init__(self, read: Read = stored) -> None:
        self.answer = read
        self.reads = 0
        self.closed = False

    async def read(self, user_ids: Sequence[str]) -> list[StoredFeatures]:
        self.reads += 1
        return await self.answer(user_ids)

    async def close(self) -> None:
        self.closed = True


def settings(**changes: Any) -> TransformerConfig:
    return TransformerConfig.model_validate({"lookup_timeout_s": 0.05} | changes)


def source_of(
    config: TransformerConfig, *readers: FakeReader | Exception, reopen_s: float = 0.01
) -> FeatureSource:
    """A source whose attempts to open give `readers`, one after another, the last for ever."""
    attempts = list(readers)

    def open_reader() -> FakeReader:
        reader = attempts.pop(0) if len(attempts) > 1 else attempts[0]
        if isinstance(reader, Exception):
            raise reader
        return reader

    return FeatureSource(config, open_reader, lambda: NOW, reopen_s)


def run(source: FeatureSource, act: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Of `act`, once the first attempt to open is over."""

    async def live() -> Any:
        await source.start()
        await until(lambda: not source.opening)
        try:
            return await act()
        finally:
            await source.close()

    return asyncio.run(live())


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)
