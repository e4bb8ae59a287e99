"""The embedded endpoint: every model version its own Triton, one Envoy in front of them.

Blue/green: a version starts beside the one that serves, and the door is turned to it when it is
ready; the one before keeps running, so that the way back is as quick. All methods can be repeated;
those that change something hold the home's lock.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError
from serving.embedded import versions
from serving.embedded.gateway import (
    Publication,
    gateway_serves,
    start_gateway,
    stop_stray_gateways,
)
from serving.embedded.routes import Backend
from serving.embedded.state import ServingHome, State
from serving.embedded.status import client_url, describe
from serving.ports import LOCAL, require_free
from serving.process import ProcessRef, alive, stop
from serving.settings import ServingConfig
from serving.triton.server import Progress, TritonServer, start_triton, stop_strays
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
        self.publication = Publication(self.home.envoy)
        self._progress = progress or (lambda message: None)

    @property
    def url(self) -> str:
        """host:port for gRPC and REST clients on this machine."""
        return client_url(self.config)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock over several calls."""
        with self.home.locked(self.config.lock_timeout_s):
            yield

    def state(self) -> State:
        return self.home.load()

    def install(self, version_dir: Path) -> ModelVersion:
        """Verify a model version and copy it into the home; VersionError says what is wrong."""
        with self.locked():
            state = self.state()
            in_use = [v for v, server in state.servers.items() if server.alive()]
            return versions.install(Path(version_dir), self.home.versions, in_use)

    def start(self, version: str) -> TritonServer:
        """A ready server of an installed version; one that runs already is kept.

        Raises:
            VersionError: not installed, or its files were changed since.
            TritonFailed: with the end of its log; what serves is untouched.
        """
        with self.locked():
            state = self.state()
            server = state.servers.get(version)
            if server is not None and server.ready():
                return server
            if server is not None:
                server.stop()  # dead or hung, perhaps with stub processes and shared memory left
            repository = self.home.versions / version
            versions.load_version(repository)
            stop_strays(repository, known=set())
            self._progress(f"starting Triton on model version {version}")
            log = self.home.logs / f"triton-{version}.log"
            server = start_triton(
                repository, self.home.root, log, self.config.start_timeout_s, self._progress
            )
            state.servers[version] = server
            self.home.save(state)
            return server

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
            self._publish(state, version)
            if before != version:
                state.current, state.previous = version, before
            self.home.save(state)
            self._progress(f"http://{self.url} serves model version {version}")

    def restore(self, earlier: State) -> None:
        """Undo a `point_to`, also one that was interrupted: as it was when `earlier` was read."""
        with self.locked():
            state = self.state()
            old = state.servers.get(earlier.current or "")
            if old is not None and old.alive():
                self._publish(state, earlier.current)
            elif state.gateway is not None and earlier.gateway is None:
                stop(state.gateway.process)
                state.gateway = None
            state.current, state.previous = earlier.current, earlier.previous
            self.home.save(state)

    def rollback(self) -> str:
        """Switch back to the version that served before; its id. Twice leads back again."""
        with self.locked():
            previous = self.state().previous
            if previous is None:
                raise NothingToServe("there is no earlier model version to go back to")
            self.switch(previous)
            return previous

    def release(self, version: str) -> None:
        """Stop a version that was tried and is neither current nor previous."""
        with self.locked():
            state = self.state()
            if version in (state.current, state.previous):
                return
            server = state.servers.pop(version, None)
            if server is not None:
                server.stop()
            self.home.save(state)

    def retire(self) -> None:
        """Stop all but the current and the previous version; delete old installations."""
        with self.locked():
            state = self.state()
            in_use = {v for v in (state.current, state.previous) if v is not None}
            for version in [v for v in state.servers if v not in in_use]:
                self.release(version)
            self._stop_strays(self.state())
            versions.prune(self.home.versions, self.config.keep_versions, in_use)

    def ensure_running(self) -> dict[str, Any]:
        """Start again whatever of the current version or the door is not running; the status.

        Raises:
            NothingToServe: no version was ever switched to.
        """
        with self.locked():
            state = self.state()
            if state.current is None:
                raise NothingToServe(
                    "there is no model version to serve yet: `kuberec run` makes one"
                )
            self.start(state.current)
            state = self.state()
            self._publish(state, state.current)
            self.home.save(state)
            return self.status()

    def keep_for(self, foreground: ProcessRef | None) -> None:
        """Name the process that keeps the endpoint running, or nobody: it runs by itself."""
        with self.locked():
            self.home.save(self.state().model_copy(update={"foreground": foreground}))

    def stop_all(self) -> None:
        """Stop the door and every server, also those that a killed command left behind.

        What was current stays so: `ensure_running` brings it back.
        """
        with self.locked():
            state = self.state()
            if state.gateway is not None:
                stop(state.gateway.process)
            with ThreadPoolExecutor() as pool:  # each takes a second or three to unload
                list(pool.map(lambda server: server.stop(), state.servers.values()))
            # A foreground command that is not named any more leaves, and starts nothing again.
            state.gateway, state.servers, state.foreground = None, {}, None
            self.home.save(state)
            self._stop_strays(state)

    def stop_since(self, earlier: State) -> None:
        """Stop what was started since `earlier` was read, and only that."""
        with self.locked():
            state = self.state()
            old = {server.process for server in earlier.servers.values()}
            if state.gateway is not None and state.gateway != earlier.gateway:
                stop(state.gateway.process)
                state.gateway = None
            for version, server in list(state.servers.items()):
                if server.process not in old:
                    server.stop()
                    del state.servers[version]
            state.foreground = earlier.foreground
            self.home.save(state)
            self._stop_strays(state)  # interrupted before they were noted down

    def status(self) -> dict[str, Any]:
        """What serves, as plain data (`describe`); changes nothing and needs no lock."""
        return describe(self.state(), self.config)

    def check_ports(self) -> None:
        """Raise PortTaken, before any work is done, if the door could not open later."""
        gateway = self.state().gateway
        own = (gateway.port, gateway.admin_port) if gateway and alive(gateway.process) else ()
        if self.config.port not in own:
            require_free(self.config.host, self.config.port, "serving.port")
        if self.config.admin_port not in own:
            require_free(LOCAL, self.config.admin_port, "serving.admin_port")

    def _stop_strays(self, state: State) -> None:
        """Stop this home's servers and gateways that `state` does not know."""
        servers = {server.process.pid for server in state.servers.values()}
        for folder in self.home.versions.glob("*"):
            stop_strays(folder, servers)
        gateways = {state.gateway.process.pid} if state.gateway else set()
        stop_stray_gateways(self.publication, gateways)

    def _publish(self, state: State, version: str | None) -> None:
        """Point the door at `version`, opening it if it is shut; updates state.gateway."""
        backends = {
            each: Backend(server.http_port, server.grpc_port)
            for each, server in state.servers.items()
            if server.alive()
        }
        open_already = gateway_serves(state.gateway, self.config)
        if not open_already and state.gateway is not None:
            stop(state.gateway.process)
            state.gateway = None
        gateways = {state.gateway.process.pid} if state.gateway else set()
        stop_stray_gateways(self.publication, gateways)
        self.publication.write(
            backends,
            version,
            self.config.request_timeout_s,
            self.config.admin_port if open_already else None,
        )
        if not open_already:
            state.gateway = start_gateway(self.config, self.publication)
            # Remembered at once: a failure later on must not lose track of it.
            self.home.save(self.home.load().model_copy(update={"gateway": state.gateway}))
