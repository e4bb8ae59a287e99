"""Clients while a canary is rolled out: a steady pace over both protocols, every answer checked."""

import http.client
import json
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from endpoint_load import TOLERANCE, ask_rest

from serving.client import RecommendClient, RecommendError, RetryPolicy
from serving.version import GoldenRequest


class Ask(NamedTuple):
    """One request, and what each version answers to it. `poisoned`: it may fail."""

    history: Sequence[str]
    answers: Mapping[str, GoldenRequest]
    user_id: str | None = None
    poisoned: bool = False


class Answered(NamedTuple):
    """One request: when it began (as time.time), and what came of it."""

    began: float
    protocol: str
    version: str | None  # None: it failed
    poisoned: bool
    code: str
    took_s: float


class SteadyLoad:
    """Two clients, one of either protocol, until the block ends; neither repeats a request.

    Args:
        asks: one after the other; `poisoned` ones among them from `poison` on.
        per_second: of both together.
        poison: one request in so many is a poisoned one; None: none.
    """

    def __init__(
        self, url: str, asks: Sequence[Ask], per_second: float = 100, poison: int | None = None
    ) -> None:
        self.url, self.poison = url, poison
        self.asks = [ask for ask in asks if not ask.poisoned]
        self.poisoned = [ask for ask in asks if ask.poisoned]
        self.pause_s = 2 / per_second
        self.events: list[Answered] = []
        self.wrong: list[str] = []
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(protocol,)) for protocol in ("grpc", "rest")
        ]

    def __enter__(self) -> "SteadyLoad":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def failed(self, poisoned: bool) -> list[Answered]:
        return [each for each in self.events if not each.version and each.poisoned == poisoned]

    def versions(self, begin: float = 0.0, end: float = float("inf")) -> Counter[str]:
        """Answers by version, to requests that began within these times."""
        return Counter(
            each.version for each in self.events if each.version and begin < each.began < end
        )

    def _run(self, protocol: str) -> None:
        with RecommendClient(self.url, timeout_s=20, retries=RetryPolicy(attempts=1)) as client:
            number, due = 0, time.monotonic()
            while not self._ended.wait(max(due - time.monotonic(), 0.0)):
                due = max(due + self.pause_s, time.monotonic() - 0.2)
                number += 1
                ask = self.asks[number % len(self.asks)]
                if self.poison and number % self.poison == 0:
                    ask = self.poisoned[number % len(self.poisoned)]
                began = time.time()
                try:
                    found = _grpc(client, ask) if protocol == "grpc" else _rest(self.url, ask)
                except _Failed as failed:
                    found, code = None, str(failed)
                else:
                    code = ""
                    self._compare(ask, *found)
                version = found[0] if found else None
                took_s = time.time() - began
                self.events.append(Answered(began, protocol, version, ask.poisoned, code, took_s))

    def _compare(self, ask: Ask, version: str, items: list[str], scores: list[float]) -> None:
        expected = ask.answers[version]
        near = np.allclose(scores, expected.scores, atol=TOLERANCE)
        if items != expected.item_ids or not near:
            self.wrong.append(f"{version}, {ask.user_id or ask.history}: {items} {scores}")


class _Failed(Exception):
    """Says how."""


def _grpc(client: RecommendClient, ask: Ask) -> tuple[str, list[str], list[float]]:
    try:
        if ask.user_id is not None:
            found = client.recommend(user_id=ask.user_id)
        else:
            found = client.recommend(ask.history)
    except RecommendError as error:
        raise _Failed(f"{error.code}: {error}") from error
    return str(found.version), list(found.item_ids), list(found.scores)


def _rest(url: str, ask: Ask) -> tuple[str, list[str], list[float]]:
    inputs = {"history": ask.history} if ask.user_id is None else {"user_id": [ask.user_id]}
    try:
        outputs, version = ask_rest(url, inputs)
    except urllib.error.HTTPError as error:
        raise _Failed(f"{error.code}: {json.loads(error.read())['error']}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _Failed(f"{type(error).__name__}: {error}") from error
    return version, outputs["item_ids"], outputs["scores"]
