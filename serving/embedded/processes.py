"""The processes of one serving home: replicas, the door, and what killed commands left behind.

Every method takes the state as it was read under the home's lock, and keeps it, and its file, in
step with what runs.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from serving.embedded import versions
from serving.embedded.accesslog import rotate
from serving.embedded.gateway import (
    Publication,
    gateway_serves,
    start_gateway,
    stop_stray_gateways,
)
from serving.embedded.replica import Place, Replica, run_replica, stop_stray_parts
from serving.embedded.state import ServingHome, State
from serving.process import alive, stop
from serving.settings import ServingConfig
from serving.triton.plain_paths import remove_links
from serving.triton.server import Progress


class Processes:
    """Starts and stops what a state names."""

    def __init__(self, home: ServingHome, config: ServingConfig, progress: Progress) -> None:
        self.home = home
        self.config = config
        self.publication = Publication(home.envoy, home.logs)
        self._progress = progress

    def run(self, state: State, version: str) -> Replica:
        """A ready replica of an installed version; parts that answer are kept as they are.

        A canary keeps the settings that it was started with: others may be those of what serves.

        Raises:
            VersionError: not installed, or its files were changed since.
            TritonFailed, TransformerFailed: with the end of a log; what serves is untouched.
        """
        replica, config = state.replicas.get(version), self.config
        if replica is not None and version in state.weights and version != state.current:
            settings = replica.transformer.settings
            config = config.model_copy(update={"transformer": settings})
        if (
            replica is not None
            and replica.ready()
            and replica.transformer.settings == config.transformer
            and replica.transformer.side_port
        ):
            return replica
        state.replicas[version] = self.launch(version, replica, config)
        self.home.save(state)
        return state.replicas[version]

    def launch(
        self, version: str, old: Replica | None = None, config: ServingConfig | None = None
    ) -> Replica:
        """A replica that no state knows yet; what is missing of `old`, and the rest of it."""
        place = Place(self.home.root, version)
        versions.load_version(place.repository)
        stop_stray_parts(place.repository, known=old.pids() if old else set())
        return run_replica(place, config or self.config, self._progress, old)

    def publish(self, state: State, weights: Mapping[str, int]) -> None:
        """Point the door at versions by weight, opening it if it is shut.

        Every version that is known stays known to the door, so that it can be turned there at
        once, and requests that are under way to one that died can go to the current one instead.
        """
        backends = {version: replica.backend for version, replica in state.replicas.items()}
        open_already = gateway_serves(state.gateway, self.config)
        if not open_already and state.gateway is not None:
            stop(state.gateway.process)
            state.gateway = None
        stop_stray_gateways(
            self.publication, {state.gateway.process.pid} if state.gateway else set()
        )
        if open_already:
            rotate(self.publication.access_log, self.config.admin_port)
        self.publication.write(
            backends,
            weights,
            self.config.request_timeout_s,
            self.config.admin_port if open_already else None,
        )
        if not open_already:
            state.gateway = start_gateway(self.config, self.publication)
            # Remembered at once: a failure later on must not lose track of it.
            self.home.save(self.home.load().model_copy(update={"gateway": state.gateway}))

    def stop_replica(self, state: State, version: str) -> None:
        """Stop a version's parts and forget them; does nothing if none are known."""
        replica = state.replicas.pop(version, None)
        if replica is not None:
            replica.stop()
        Place(self.home.root, version).settings.unlink(missing_ok=True)
        self.home.save(state)

    def stop_all(self, state: State) -> None:
        """Stop the door and every replica, known or not."""
        self.close_door(state)
        state.trial = None
        with ThreadPoolExecutor() as pool:  # each takes a second or three to unload
            list(pool.map(lambda replica: replica.stop(), state.replicas.values()))
        state.replicas = {}
        self.home.save(state)
        self.stop_strays(state)

    def stop_since(self, state: State, earlier: State) -> None:
        """Stop what was started since `earlier` was read, and only that.

        A replica that had to be mended meanwhile stays if the other half of it is older.
        """
        old = {pid for replica in earlier.replicas.values() for pid in replica.pids()}
        if state.gateway is not None and state.gateway != earlier.gateway:
            self.close_door(state)
        for version, replica in list(state.replicas.items()):
            if not replica.pids() & old:
                self.stop_replica(state, version)
        self.home.save(state)
        self.stop_strays(state)  # interrupted before they were noted down

    def close_door(self, state: State) -> None:
        if state.gateway is not None:
            stop(state.gateway.process)
            state.gateway = None

    def stop_strays(self, state: State) -> None:
        """Stop this home's processes that `state` does not know, but for those of a trial."""
        known = {pid for replica in state.replicas.values() for pid in replica.pids()}
        for folder in self.home.versions.glob("*"):
            if folder.name == state.on_trial:
                continue
            stop_stray_parts(folder, known)
            if folder.name not in state.replicas:
                remove_links(folder)  # made for a Triton that was interrupted before it began
        stop_stray_gateways(
            self.publication, {state.gateway.process.pid} if state.gateway else set()
        )

    def door_is_open(self, state: State) -> bool:
        return state.gateway is not None and alive(state.gateway.process)

    def any_run(self, state: State) -> bool:
        """Whether a process that `state` names runs: a part, or who starts parts again."""
        replicas = state.replicas.values()
        named = [part.process for each in replicas for part in (each.triton, each.transformer)]
        named += [] if state.gateway is None else [state.gateway.process]
        named += [] if state.foreground is None else [state.foreground]
        return any(alive(each) for each in named)
