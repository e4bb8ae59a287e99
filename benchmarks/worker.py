"""A process of its own that makes requests: told what by lines of JSON, answers by lines of JSON.

Measuring from another process keeps what measures (this, Python, one core at most) apart from what
serves, and the same for every system.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np


class Sample(NamedTuple):
    """What one measurement saw."""

    latencies_ms: np.ndarray  # of every answered request, in no order
    errors: dict[str, int]  # by code
    seconds: float
    requests: int  # made, those of the warm-up too

    @property
    def answers_per_s(self) -> float:
        return len(self.latencies_ms) / self.seconds

    def __add__(self, other: "Sample") -> "Sample":  # type: ignore[override]
        errors = {
            code: self.errors.get(code, 0) + other.errors.get(code, 0)
            for code in self.errors.keys() | other.errors.keys()
        }
        latencies = np.concatenate([self.latencies_ms, other.latencies_ms])
        return Sample(
            latencies, errors, self.seconds + other.seconds, self.requests + other.requests
        )


class Worker:
    """Runs `python -m MODULE` and asks it; the process ends with the block.

    Raises:
        RuntimeError: the process ended instead of answering; its own error is on the screen.
    """

    def __init__(self, module: str, setup: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask(setup)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def measure(self, **order: Any) -> Sample:
        """One measurement, as the module's `serve_orders` describes it."""
        found = self._ask(order)
        latencies = np.frombuffer(base64.b64decode(found["latencies_ms"]), dtype="<f4")
        return Sample(latencies, found["errors"], found["seconds"], found["requests"])

    def _ask(self, line: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the measuring process ended (status {self._process.wait()})")
        return json.loads(answer)


def serve_orders(prepare: Callable[[dict[str, Any]], Callable[..., Sample]]) -> None:
    """The worker's side: the first line prepares, every further line is one measurement."""
    measure = prepare(json.loads(sys.stdin.readline()))
    print("{}", flush=True)
    for line in sys.stdin:
        sample = measure(**json.loads(line))
        raw = sample.latencies_ms.astype("<f4").tobytes()
        found = sample._asdict() | {"latencies_ms": base64.b64encode(raw).decode()}
        print(json.dumps(found), flush=True)
