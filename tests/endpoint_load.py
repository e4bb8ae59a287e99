"""Requests over both protocols, from several threads, every answer compared with a golden one."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from serving.client import RecommendClient, RecommendError, RetryPolicy
from serving.version import GoldenRequest

# Every one of these tells a client what to do: wait, or ask for less.
EXPLAINED = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "503", "504"}
TOLERANCE = 1e-4  # of a score: a batch of another shape is summed in another order


class Event(NamedTuple):
    """One request: when it began and ended, and what came of it."""

    began: float
    ended: float
    protocol: str
    version: str | None  # None: it failed
    code: str
    message: str


class Load:
    """Asks `url` for golden requests until the block ends.

    Args:
        golden: golden requests by version; a wrong answer lands in `wrong`.
        grpc, rest: threads of either kind. No client repeats a request by itself.
    """

    def __init__(
        self, url: str, golden: Mapping[str, Sequence[GoldenRequest]], grpc: int = 2, rest: int = 1
    ) -> None:
        self.url, self.golden, self.running = url, golden, True
        self.requests = [
            {"history": each.history, "exclude": each.exclude}
            for each in next(iter(golden.values()))
        ]
        self.events: list[Event] = []
        self.wrong: list[str] = []
        asks = [self._grpc] * grpc + [self._rest] * rest
        self.threads = [threading.Thread(target=self._run, args=(ask,)) for ask in asks]

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.running = False
        for thread in self.threads:
            thread.join()

    @property
    def errors(self) -> list[Event]:
        return [event for event in self.events if event.version is None]

    @property
    def versions(self) -> Counter[str]:
        return Counter(event.version for event in self.events if event.version is not None)

    def unexplained(self) -> list[Event]:
        return [
            event
            for event in self.errors
            if event.code not in EXPLAINED or len(event.message.split()) < 4
        ]

    def kinds(self) -> dict[str, int]:
        """Errors by protocol, code and message, for a report."""
        return dict(Counter(f"{e.protocol} {e.code}: {e.message[-90:]}" for e in self.errors))

    def recovery_s(self, since: float, protocol: str) -> float:
        """From `since` to the first answer to a request that began after it, and after errors."""
        failed = [e.began for e in self.errors if e.protocol == protocol]
        last = max([since, *failed])
        answered = [
            e.ended
            for e in self.events
            if e.version is not None and e.began > last and e.protocol == protocol
        ]
        return min(answered) - since

    def _run(self, ask: Any) -> None:
        with RecommendClient(self.url, timeout_s=20, retries=RetryPolicy(attempts=1)) as client:
            for number in count():
                if not self.running:
                    return
                index = number % len(self.requests)
                begin = time.monotonic()
                found = ask(client, self.requests[index])
                protocol = "grpc" if ask == self._grpc else "rest"
                version, code, message = None, "", ""
                if isinstance(found[0], list):
                    items, scores, version = found
                    self._compare(index, items, scores, version)
                else:
                    code, message = found
                    time.sleep(0.01)
                self.events.append(Event(begin, time.monotonic(), protocol, version, code, message))

    def _compare(self, index: int, items: list[str], scores: list[float], version: str) -> None:
        expected = self.golden[version][index]
        right = items == expected.item_ids and np.allclose(scores, expected.scores, atol=TOLERANCE)
        if not right:
            self.wrong.append(f"{version}, request {index}: {items} {scores}")

    def _grpc(self, client: RecommendClient, request: dict[str, list[str]]) -> tuple[Any, ...]:
        try:
            found = client.recommend(request["history"], request["exclude"])
        except RecommendError as error:
            return error.code, str(error)
        return found.item_ids, found.scores, found.version

    def _rest(self, client: RecommendClient, request: dict[str, list[str]]) -> tuple[Any, ...]:
        time.sleep(0.002)
        try:
            outputs, version = ask_rest(self.url, request)
        except urllib.error.HTTPError as error:
            return str(error.code), json.loads(error.read())["error"]
        except (OSError, ValueError, http.client.HTTPException) as error:
            return type(error).__name__, str(error)
        return outputs["item_ids"], outputs["scores"], version


def ask_rest(
    url: str, request: Mapping[str, Sequence[str]], **headers: str
) -> tuple[dict[str, Any], str]:
    """One row over REST: outputs by name, and the version that the door names."""
    tensors = [
        {"name": name, "shape": [1, len(ids)], "datatype": "BYTES", "data": list(ids)}
        for name, ids in request.items()
        if ids or name == "history"
    ]
    body = json.dumps({"inputs": tensors}).encode()
    where = f"http://{url}/v2/models/recommend/infer"
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    post = urllib.request.Request(where, body, headers | {"content-type": "application/json"})
    with urllib.request.urlopen(post, timeout=20) as response:
        outputs = {each["name"]: each["data"] for each in json.load(response)["outputs"]}
        return outputs, response.headers["x-kuberec-version"]
