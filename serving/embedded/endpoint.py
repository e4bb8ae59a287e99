"""The embedded endpoint: every model version a replica of its own, one Envoy in front of them.

Blue/green: a version starts beside the one that serves, and the door is turned to it when it is
ready, at once or by shares; the one before keeps running, so that the way back is as quick. All
methods can be repeated; those that change something hold the home's lock.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError
from serving.embedded import versions
from serving.embedded.processes import Processes
from serving.embedded.replica import Replica
from serving.embedded.shares import SplitRefused, check_shares
from serving.embedded.state import ServingHome, State
from serving.embedded.status import client_url, describe
from serving.embedded.trial import start_trial
from serving.ports import LOCAL, require_free
from serving.process import ProcessRef
from serving.settings import ServingConfig
from serving.triton.server import Progress
from serving.version import ModelVersion


class NothingToServe(KuberecError):
    """No version was ever switched to, or none to go back to."""


class EmbeddedEndpoint:
    """What serves on this machine from one state home.

    Args:
        home: the state home (KUBEREC_HOME); everything lies in its folder `serving`.
        config: the run's `serving` section.
        progress: called with one line of text where something takes time.
    """

    def __init__(
        self, home: Path, config: ServingConfig | None = None, progress: Progress | None = None
    ) -> None:
        self.config = config or ServingConfig()
        self.home = ServingHome(home)
        self._progress = progress or (lambda message: None)
        self._processes = Processes(self.home, self.config, self._progress)

    @property
    def url(self) -> str:
        """host:port for gRPC and REST clients on this machine."""
        return client_url(self.config)

    @contextmanager
    def locked(self, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the lock over several calls; by default it is waited for `lock_timeout_s`."""
        with self.home.locked(self.config.lock_timeout_s if timeout_s is None else timeout_s):
            yield

    def use(self, config: ServingConfig) -> None:
        """Go on with other settings: those read before the lock was held may be old by then."""
        self.config = self._processes.config = config

    def state(self) -> State:
        return self.home.load()

    def install(self, version_dir: Path) -> ModelVersion:
        """Verify a model version and copy it into the home; VersionError says what is wrong."""
        with self.locked():
            in_use = [v for v, each in self.state().replicas.items() if each.triton.alive()]
            return versions.install(Path(version_dir), self.home.versions, in_use)

    def start(self, version: str) -> Replica:
        """A ready replica of an installed version; one that runs already is kept.

        Of one that is half dead only that half is started again, on the same ports.

        Raises:
            VersionError: not installed, or its files were changed since.
            TritonFailed, TransformerFailed: with the end of a log; what serves is untouched.
        """
        with self.locked():
            return self._processes.run(self.state(), version)

    def start_trial(self, version: str) -> Replica:
        """As `start`, without holding the lock while it loads: parts that serve can be mended.

        Until it has a share, or `release`, or this process's end, it counts as in use.

        Raises:
            TrialEnded: and what `start` raises.
        """
        return start_trial(self.home, self._processes, self.config.lock_timeout_s, version)

    def switch(self, version: str) -> None:
        """Turn the door to an installed version, started if need be; loses no request.

        The version that served so far becomes the way back; what is older is stopped.
        """
        with self.locked():
            self.point_to(version)
            self.retire()

    def point_to(self, version: str) -> None:
        """`switch` without stopping what is older, for who may want to undo it."""
        with self.locked():
            self.start(version)
            state = self.state()
            before = state.current
            self._publish(state, {version: 100})
            if before != version:
                state.current, state.previous = version, before
            state.weights = {}
            self.home.save(state)
            self._progress(f"http://{self.url} serves model version {version}")

    def split(self, weights: Mapping[str, int]) -> None:
        """Share the requests between versions that run: {version: percent}; loses no request.

        The current version stays the current one, whatever its share, until a `switch`; a share of
        0 keeps a version within reach without a request.

        Raises:
            SplitRefused: the sum is not 100, the current version is not among them, or one of them
                is not ready.
        """
        with self.locked():
            state = self.state()
            shares = check_shares(weights, state)
            self._publish(state, shares)
            state.weights = shares if len(shares) > 1 else {}
            if state.trial is not None and state.trial.version in shares:
                state.trial = None
            self.home.save(state)
            said = ", ".join(f"{version} {percent} %" for version, percent in shares.items())
            self._progress(f"http://{self.url} serves {said}")

    def withdraw(self, version: str) -> None:
        """Take a share of 0 away. Unlike `split`, whether or not what serves is ready.

        Raises:
            SplitRefused: it has a share of the requests.
        """
        with self.locked():
            state = self.state()
            if state.shares.get(version, 0):
                raise SplitRefused(f"model version {version} has a share of the requests")
            left = {v: share for v, share in state.weights.items() if v != version}
            state.weights = left if len(left) > 1 else {}
            if self._processes.door_is_open(state):
                self._publish(state, state.shares)
            self.home.save(state)

    def restore(self, earlier: State) -> None:
        """Undo a `point_to` or `split`, also an interrupted one: as when `earlier` was read."""
        with self.locked():
            state = self.state()
            # A transformer that was replaced because of other settings still runs.
            state.replicas |= {v: each for v, each in earlier.replicas.items() if each.alive()}
            state.current, state.previous = earlier.current, earlier.previous
            state.weights = earlier.weights
            if earlier.current is not None and earlier.current in state.replicas:
                self._publish(state, state.shares)
            elif earlier.gateway is None:
                self._processes.close_door(state)
            self.home.save(state)
            self._processes.stop_strays(state)

    def leave_alone(self, version: str, previous: str | None) -> None:
        """Of an endpoint that is stopped: what it serves when it starts again, and a way back.

        Raises:
            SplitRefused: something of it runs, and would have to be changed as well.
        """
        with self.locked():
            state = self.state()
            if self._processes.any_run(state):
                raise SplitRefused(f"the endpoint runs: a switch is the way to {version} alone")
            state.current, state.previous = version, previous
            state.weights, state.trial = {}, None
            self.home.save(state)

    def runs(self) -> bool:
        """Whether anything of it runs, or somebody is there to start it again."""
        return self._processes.any_run(self.state())

    def set_previous(self, version: str | None) -> None:
        """Name the way back, as it was before something that is undone; None if it is gone."""
        with self.locked():
            state = self.state()
            state.previous = version if version in state.replicas else None
            self.home.save(state)

    def rollback(self) -> str:
        """Switch back to the version that served before; its id. Twice leads back again.

        While requests are split, all of them go to the current version again instead.
        """
        with self.locked():
            state = self.state()
            back = state.current if state.weights else state.previous
            if back is None:
                raise NothingToServe("there is no earlier model version to go back to")
            self.switch(back)
            return back

    def release(self, version: str) -> None:
        """Stop a version that was tried and is not in use."""
        with self.locked():
            state = self.state()
            if state.trial is not None and state.trial.version == version:
                state.trial = None
                self.home.save(state)
            if version not in state.in_use:
                self._processes.stop_replica(state, version)

    def retire(self) -> None:
        """Stop all but the versions in use; delete old installations."""
        with self.locked():
            for version in [v for v in self.state().replicas if v not in self.state().in_use]:
                self.release(version)
            state = self.state()
            self._processes.stop_strays(state)
            versions.prune(self.home.versions, self.config.keep_versions, state.in_use)

    def ensure_running(self) -> dict[str, Any]:
        """Start again whatever serves requests, or is the door, and is not running; the status.

        Raises:
            NothingToServe: no version was ever switched to.
        """
        with self.locked():
            current = self.state().current
            if current is None:
                raise NothingToServe(
                    "there is no model version to serve yet: `kuberec run` makes one"
                )
            self.start(current)
            for version, share in self.state().shares.items():
                if version != current:
                    self._start_beside(version, share)
            self.open_door()
            return self.status()

    def _start_beside(self, version: str, share: int) -> None:
        """Start what has a share beside the current version, which answers for it if that fails."""
        try:
            self.start(version)
        except KuberecError as error:
            self._progress(
                f"{version}, which was to have {share} % of the requests, could not be started: "
                f"{error}\n"
                f"{self.state().current} has all of them; to leave it at that: "
                "kuberec rollout abort"
            )

    def open_door(self) -> None:
        """Open the door if it is shut, and let it know where everything is by now."""
        with self.locked():
            state = self.state()
            self._publish(state, state.reachable_shares)
            self.home.save(state)
            self._processes.stop_strays(state)

    def keep_for(self, foreground: ProcessRef | None) -> None:
        """Name the process that keeps the endpoint running, or nobody: it runs by itself."""
        with self.locked():
            self.home.save(self.state().model_copy(update={"foreground": foreground}))

    def stop_all(self) -> None:
        """Stop the door and every replica, also those that a killed command left behind.

        What was current stays so: `ensure_running` brings it back.
        """
        with self.locked():
            state = self.state()
            # Who is not named any more leaves: first, so that nobody takes this for a failure.
            state.foreground = None
            self.home.save(state)
            self._processes.stop_all(state)

    def stop_since(self, earlier: State) -> None:
        """Stop what was started since `earlier` was read, and only that."""
        with self.locked():
            state = self.state()
            state.foreground = earlier.foreground
            self._processes.stop_since(state, earlier)

    def status(self) -> dict[str, Any]:
        """What serves, as plain data (`describe`); changes nothing and needs no lock."""
        return describe(self.state(), self.config, self.home)

    def check_ports(self) -> None:
        """Raise PortTaken, before any work is done, if the door could not open later."""
        gateway = self.state().gateway
        open_already = self._processes.door_is_open(self.state())
        own = (gateway.port, gateway.admin_port) if gateway and open_already else ()
        if self.config.port not in own:
            require_free(self.config.host, self.config.port, "serving.port")
        if self.config.admin_port not in own:
            require_free(LOCAL, self.config.admin_port, "serving.admin_port")

    def _publish(self, state: State, weights: Mapping[str, int]) -> None:
        self._processes.publish(state, weights)
