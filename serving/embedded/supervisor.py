"""Keeps an endpoint running: notices what dies or is stuck, and starts it again.

A dead process is seen by its pid, looked at a few times a second; a stuck one by what it answers,
asked more rarely, in a thread of its own so that a slow answer delays nothing else.
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import NamedTuple

from recommender.errors import KuberecError
from serving.embedded.accesslog import rotate
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.gateway import gateway_serves
from serving.embedded.state import ServingBusy, State
from serving.process import ProcessRef, alive, stop
from serving.triton.server import Progress

LOOK_EVERY_S = 0.2
ASK_EVERY_S = 2.0
# A part that is alive but does not answer may only be busy: so often in a row, and it is stuck.
STRIKES = 2
# What dies again so soon is not worth starting at once again, and again.
_QUIET_S = 60.0
_LONGEST_WAIT_S = 30.0
ENVOY = "Envoy"


class Part(NamedTuple):
    """One process of the endpoint, by what it is: `version` is "" for Envoy."""

    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name} of model version {self.version}" if self.version else self.name


class BackOff:
    """When what ended may be started again: at once, and later and later if it keeps ending."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tries: dict[Hashable, int] = {}
        self._last: dict[Hashable, float] = {}

    def wait_s(self, key: Hashable) -> float:
        """Seconds until the next try; 0 or less: now."""
        return self._last.get(key, self._clock()) + self._pause(key) - self._clock()

    def tried(self, key: Hashable) -> float:
        """Note a start, successful or not; the pause before the next, if it is needed soon."""
        quiet = self._clock() - self._last.get(key, -_QUIET_S) >= _QUIET_S
        self._tries[key] = 1 if quiet else self._tries[key] + 1
        self._last[key] = self._clock()
        return self._pause(key)

    def _pause(self, key: Hashable) -> float:
        tries = self._tries.get(key, 0)
        return min(_LONGEST_WAIT_S, 2.0 ** (tries - 2)) if tries > 1 else 0.0


class Supervisor:
    """Watches the endpoint of a home on behalf of one foreground process.

    Args:
        open_endpoint: gives the endpoint where it is by now; a rollout may have moved it.
        foreground: the process that the endpoint is kept running for.
        say: shows one line to the operator.
    """

    def __init__(
        self, open_endpoint: Callable[[], EmbeddedEndpoint], foreground: ProcessRef, say: Progress
    ) -> None:
        self._open = open_endpoint
        self._foreground = foreground
        self._say = say
        self._back_off = BackOff()
        self._stuck: set[tuple[Part, ProcessRef]] = set()
        self._waits_for: str | None = None

    def run(self) -> None:
        """Return when another command has stopped the endpoint, or keeps it running itself."""
        endpoint = self._open()
        done = threading.Event()
        threading.Thread(target=self._ask, args=(done,), daemon=True).start()
        try:
            while True:
                state = endpoint.state()
                if state.foreground != self._foreground:
                    return
                broken = self._broken(state)
                if broken:
                    self._mend(broken)
                time.sleep(LOOK_EVERY_S)
        finally:
            done.set()

    def _broken(self, state: State) -> list[Part]:
        """Parts that have ended, or were found stuck and are still the same process."""
        return [
            part
            for part, process in _parts(state).items()
            if not alive(process) or (part, process) in self._stuck
        ]

    def _mend(self, broken: list[Part]) -> None:
        """Start again, together, what may be started by now."""
        for key in sorted({part.version for part in broken}, key=bool):  # Envoy first: it is quick
            if all(self._back_off.wait_s(part) > 0 for part in broken if part.version == key):
                continue
            try:
                self._mend_one(key)
            except ServingBusy:
                if self._waits_for != key:
                    self._say(f"{_names(broken, key)} failed; waiting for another command's end")
                self._waits_for = key
            except (KuberecError, OSError) as error:
                # Unreadable settings, a full disk: no reason to give up what still runs.
                pause = max(self._back_off.tried(part) for part in broken if part.version == key)
                self._say(
                    f"{_names(broken, key)} could not be started: {error}\n"
                    f"trying again in {pause:.0f} s"
                )

    def _mend_one(self, key: str) -> None:
        """Start again what is broken of one version, or Envoy; `key` is as in `Part.version`."""
        endpoint = self._open()
        with endpoint.locked(timeout_s=1.0):
            # A rollout, or a stop, may have been under way, and have changed any of it.
            endpoint.use(self._open().config)
            state = endpoint.state()
            broken = [part for part in self._broken(state) if part.version == key]
            if state.foreground != self._foreground or not broken:
                return
            self._waits_for = None
            names = _names(broken, key)
            parts = _parts(state)
            stuck = [parts[part] for part in broken if alive(parts[part])]
            self._say(f"{names} {'does not answer' if stuck else 'ended'}; starting it again")
            begin = time.monotonic()
            for process in stuck:
                stop(process, timeout_s=1.0)  # it would not hear a request to end, either
            self._start(endpoint, state, key)
            pause = max(self._back_off.tried(part) for part in broken)
            self._say(f"{names} is ready again after {time.monotonic() - begin:.1f} s")
            if pause:
                self._say(f"it keeps failing: the next start waits {pause:.0f} s")

    @staticmethod
    def _start(endpoint: EmbeddedEndpoint, state: State, key: str) -> None:
        before = state.replicas.get(key)
        if before is None or endpoint.start(key).backend != before.backend:
            endpoint.open_door()

    def _ask(self, done: threading.Event) -> None:
        """Ask every part whether it answers; note those that do not, time and again."""
        strikes: dict[tuple[Part, ProcessRef], int] = {}
        trouble = ""
        while not done.wait(ASK_EVERY_S):
            try:
                endpoint = self._open()
                state = endpoint.state()
                if state.gateway is not None:
                    rotate(endpoint.home.logs / "access.log", state.gateway.admin_port)
                trouble = ""
            except (KuberecError, OSError) as error:
                if trouble != str(error):  # once, not every time that it is looked
                    self._say(f"could not look after the endpoint: {error}")
                trouble = str(error)
                continue
            silent = {
                (part, process)
                for part, process in _parts(state).items()
                if alive(process) and not _answers(part, state, endpoint)
            }
            strikes = {each: strikes.get(each, 0) + 1 for each in silent}
            self._stuck = {each for each, count in strikes.items() if count >= STRIKES}


def _names(broken: list[Part], key: str) -> str:
    return " and ".join(str(part) for part in broken if part.version == key)


def _parts(state: State) -> dict[Part, ProcessRef]:
    """The processes that serve, or are kept for a way back."""
    parts = {} if state.gateway is None else {Part(ENVOY): state.gateway.process}
    for version, replica in state.replicas.items():
        if version in state.in_use:
            parts[Part("the transformer", version)] = replica.transformer.process
            parts[Part("Triton", version)] = replica.triton.process
    return parts


def _answers(part: Part, state: State, endpoint: EmbeddedEndpoint) -> bool:
    if part.name == ENVOY:
        return gateway_serves(state.gateway, endpoint.config)
    replica = state.replicas[part.version]
    return replica.triton.ready() if part.name == "Triton" else replica.transformer.answers()
