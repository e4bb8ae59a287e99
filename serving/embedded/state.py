"""What the embedded endpoint remembers between commands: one JSON file, one lock."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from recommender.errors import KuberecError
from recommender.files import ensure_writable, read_json, write_json
from serving.embedded.replica import Replica
from serving.process import ProcessRef, alive


class Gateway(BaseModel):
    """The running Envoy and the addresses it was started with."""

    model_config = ConfigDict(frozen=True)

    process: ProcessRef
    host: str
    port: int
    admin_port: int


class Trial(BaseModel):
    """A version that the process `by` starts beside those that serve, without holding the lock."""

    model_config = ConfigDict(frozen=True)

    version: str
    by: ProcessRef


class State(BaseModel):
    """Ids of the versions that serve and that served before, and the processes behind them.

    `weights` are the shares in percent while several versions serve; empty means that all is the
    current one's. `replicas` also holds a version that is being tried and serves nobody yet.
    `trial` is one that is being started for that; it ends with the process that does so.
    `foreground` is the `kuberec serve`, or the keeper in the background, that starts again what
    dies; one that is not named here (any more) leaves.
    """

    current: str | None = None
    previous: str | None = None
    weights: dict[str, int] = {}
    replicas: dict[str, Replica] = {}
    gateway: Gateway | None = None
    foreground: ProcessRef | None = None
    trial: Trial | None = None

    @property
    def shares(self) -> dict[str, int]:
        """Percent by version that serves, the current one first."""
        if self.current is None:
            return {}
        return {self.current: 100} | self.weights

    @property
    def reachable_shares(self) -> dict[str, int]:
        """`shares`, as the door can have them: those of versions that never started are another's.

        That is the current one, which a version that died since falls back to by itself.
        """
        known = {v: share for v, share in self.shares.items() if v in self.replicas}
        if self.current in known and self.current is not None:
            known[self.current] += 100 - sum(known.values())
        return known

    @property
    def in_use(self) -> set[str]:
        """Versions that serve, the one that is kept for a way back, and one on trial."""
        return {*self.shares} | {v for v in (self.previous, self.on_trial) if v is not None}

    @property
    def on_trial(self) -> str | None:
        """The version that somebody is starting."""
        return None if self.trial is None or not alive(self.trial.by) else self.trial.version


class ServingBusy(KuberecError):
    """Another command holds the lock."""


class ServingHome:
    """The folder `<state home>/serving` with its parts, its state file and its lock."""

    def __init__(self, home: Path) -> None:
        self.root = Path(home).resolve() / "serving"
        self.versions = self.root / "versions"
        self.logs = self.root / "logs"
        self.envoy = self.root / "envoy"
        self._thread = threading.RLock()
        self._depth = 0
        self._file = self.root / "lock"

    def load(self) -> State:
        path = self.root / "state.json"
        if not path.is_file():
            return State()
        try:
            return State.model_validate(read_json(path))
        except ValueError as error:
            raise KuberecError(
                f"'{path}' is not readable ({error}); stop what runs with `kuberec stop` "
                "after deleting that file"
            ) from error

    def save(self, state: State) -> None:
        write_json(self.root / "state.json", state.model_dump(mode="json"))

    @contextmanager
    def locked(self, timeout_s: float) -> Iterator[None]:
        """Hold the lock of this home; waits for another holder, and may be nested.

        The system drops the lock with the process, so that a killed command leaves none behind.

        Raises:
            ServingBusy: naming the holder, after `timeout_s`.
        """
        with self._thread:
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            ensure_writable(self.root)
            with self._file.open("a+") as stream:
                self._acquire(stream.fileno(), timeout_s)
                stream.truncate(0)
                stream.write(str(os.getpid()))
                stream.flush()
                self._depth = 1
                try:
                    yield
                finally:
                    self._depth = 0

    def _acquire(self, descriptor: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = self._file.read_text() or "unknown"
                    raise ServingBusy(
                        f"another command (pid {holder}) is changing what serves; try again when "
                        f"it is done (waited {timeout_s:.0f} s: serving.lock_timeout_s)"
                    ) from None
                time.sleep(0.1)
