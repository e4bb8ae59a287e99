"""The embedded endpoint as a place of rollouts: two replicas behind one Envoy on this machine."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from recommender.errors import Check, KuberecError
from recommender.files import read_json
from serving.client import Door
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.gateway import Publication, gateway_serves
from serving.embedded.replica import Replica
from serving.embedded.routes import published_shares
from serving.embedded.state import State
from serving.ports import LOCAL
from serving.process import alive
from serving.rollout.embedded.checks import check_replica
from serving.rollout.embedded.files import RolloutFiles
from serving.rollout.embedded.scrape import Addresses, ScrapedEvidence
from serving.rollout.embedded.side_doors import LocalSideDoor, ask_both, draw
from serving.rollout.embedded.waiting import once_ready, trouble_of
from serving.rollout.evidence import Evidence, MetricsUnavailable, Pair, Request
from serving.rollout.expected import on_cpu
from serving.rollout.record import Note, Rollout, Wish
from serving.rollout.target import Observed
from serving.settings import ServingConfig, load_settings, save_settings
from serving.triton.server import Progress


class EmbeddedTarget:
    """The endpoint of a state home (target.Target).

    The endpoint's own lock is held around a change and no longer, so that the keeper can start
    again what dies, and an operator change what serves, while a canary is watched.

    Args:
        config: the run's `serving` section; of the door, what is open already decides until the
            canary is promoted.
        version_dir: where the canary comes from; None: it is installed already.
    """

    kind: Literal["embedded", "kserve"] = "embedded"

    def __init__(
        self,
        home: Path,
        config: ServingConfig | None = None,
        progress: Progress | None = None,
        version_dir: Path | None = None,
    ) -> None:
        self._home, self._version_dir = Path(home), version_dir
        self._config = config or ServingConfig()
        self.endpoint = EmbeddedEndpoint(home, self._config, progress)
        self._files = RolloutFiles(self.endpoint.home.root)
        self.endpoint.use(self._config.model_copy(update=self._door_is_at()))

    def exclusive(self) -> AbstractContextManager[None]:
        return self._files.exclusive()

    def holder(self) -> str | None:
        return self._files.holder()

    def load(self) -> Rollout | None:
        return self._files.load()

    def history(self) -> list[Rollout]:
        """All that are remembered, newest first."""
        return self._files.history()

    def save(self, rollout: Rollout) -> None:
        self._files.save(rollout)

    def requested(self) -> Wish | None:
        return self._files.requested()

    def request(self, what: Wish | None) -> None:
        self._files.request(what)

    def observe(self) -> Observed:
        state = self.endpoint.state()
        canary = _beside(state)
        with ThreadPoolExecutor(2) as pool:
            stable_trouble, canary_trouble = pool.map(
                lambda version: trouble_of(state, version), (state.current, canary)
            )
        if not gateway_serves(state.gateway, self.endpoint.config):
            stable_trouble = stable_trouble or "Envoy does not answer"
        # What the file says Envoy has taken over: whoever wrote it waited for that.
        routes = self._publication.routes  # none before anything ever served
        shares = published_shares(read_json(routes)) if routes.is_file() else {}
        troubles = {state.current: stable_trouble, canary: canary_trouble}
        return Observed(
            stable=state.current,
            canary=canary,
            percent=sum(share for version, share in shares.items() if version != state.current),
            wanted_percent=100 - state.shares.get(state.current or "", 100),
            stable_ready=not stable_trouble,
            canary_ready=canary is not None and not canary_trouble,
            trouble="; ".join(f"{v}: {what}" for v, what in troubles.items() if v and what),
        )

    def mend(self) -> None:
        """Start again what serves and does not answer, or has no side door, as it is set up."""
        state, config = self.endpoint.state(), self.endpoint.config
        served = [state.replicas.get(version) for version in state.shares]
        if gateway_serves(state.gateway, config) and all(
            each is not None and each.ready() and each.transformer.side_port for each in served
        ):
            return
        self.endpoint.use(config.model_copy(update={"transformer": self._saved().transformer}))
        try:
            self.endpoint.ensure_running()
        finally:
            self.endpoint.use(config)

    def prepare(self, rollout: Rollout) -> list[Check]:
        endpoint, canary = self.endpoint, rollout.canary
        rollout.where.setdefault("previous", endpoint.state().previous)
        rollout.where["settings"] = self._config.model_dump(mode="json")
        self.save(rollout)
        version = endpoint.install(self._version_dir or endpoint.home.versions / canary)
        replica = endpoint.start_trial(canary)
        checks = check_replica(endpoint, replica, on_cpu(version), self._config)
        self._share(rollout, 0)
        return checks

    def shift(self, rollout: Rollout, percent: int) -> None:
        self._share(rollout, percent)

    def _share(self, rollout: Rollout, percent: int) -> None:
        shares = {rollout.stable: 100 - percent, rollout.canary: percent}

        def change() -> None:
            if self.endpoint.state().weights != shares:
                self.endpoint.split(shares)

        once_ready(self.endpoint, rollout, change, self.requested)

    def promote(self, rollout: Rollout) -> None:
        config = ServingConfig.model_validate(rollout.where.get("settings") or self._config)

        def change() -> None:
            self.endpoint.use(config)
            self.endpoint.check_ports()  # before the door at the old ones is shut
            rollout.where.setdefault("saved", self._saved().model_dump(mode="json"))
            rollout.where.setdefault("door", self._door_is_at())
            self.save(rollout)
            # First, so that whoever starts a dead part again, and a rollout that goes on after
            # this one was killed, find the settings that the canary runs with.
            save_settings(self._home, config)
            self.endpoint.point_to(rollout.canary)
            self.endpoint.retire()

        if self.endpoint.state().current == rollout.canary:  # this was killed half-way before
            with self.endpoint.locked():
                change()
        else:
            once_ready(self.endpoint, rollout, change)

    def abandon(self, rollout: Rollout) -> None:
        stable, canary = rollout.stable, rollout.canary
        self._back_to_settings_of_stable(rollout)
        state = self.endpoint.state()
        if not self.endpoint.runs():
            moved = state.current == canary
            previous = rollout.where.get("previous") if moved else state.previous
            self.endpoint.leave_alone(stable, previous)
            return

        def change() -> None:
            state = self.endpoint.state()
            if state.current == canary:
                self.endpoint.point_to(stable)
                self.endpoint.set_previous(rollout.where.get("previous"))
            elif state.shares.get(canary, 0):
                self.endpoint.split({stable: 100})
            elif canary in state.weights:
                self.endpoint.withdraw(canary)
            self.endpoint.release(canary)

        if state.shares.get(canary, 0):
            once_ready(self.endpoint, rollout, change)
        else:
            with self.endpoint.locked():
                change()

    def _back_to_settings_of_stable(self, rollout: Rollout) -> None:
        """Those of before a promotion that did not come to its end."""
        with self.endpoint.locked():
            config, door = self._saved(), self._door_is_at()
            if before := rollout.where.get("saved"):
                config, door = ServingConfig.model_validate(before), rollout.where["door"]
                save_settings(self._home, config)
            self.endpoint.use(config.model_copy(update=door))

    def _saved(self) -> ServingConfig:
        """The settings of what serves, or else those of this run."""
        try:
            return load_settings(self._home)
        except KuberecError:  # of another version of kuberec
            return self._config

    def _door_is_at(self) -> dict[str, Any]:
        """Host and ports of a door that is open, as settings; they need not be the saved ones."""
        gateway = self.endpoint.state().gateway
        if gateway is None or not alive(gateway.process):
            return {}
        return gateway.model_dump(include={"host", "port", "admin_port"})

    def evidence(self, rollout: Rollout) -> Evidence:
        admin = f"{LOCAL}:{self.endpoint.config.admin_port}"
        return ScrapedEvidence(admin, (rollout.stable, rollout.canary), self._addresses)

    def door(self) -> Door:
        return Door(self.endpoint.url)

    def live_requests(self, rollout: Rollout, limit: int) -> list[Request]:
        stable, canary = self._doors(rollout)
        return draw(stable, canary, limit)

    def ask_both(self, rollout: Rollout, requests: Sequence[Request]) -> list[Pair]:
        return ask_both(*self._doors(rollout), requests)

    def announce(self, rollout: Rollout, note: Note) -> None:
        return  # progress has said it

    @property
    def _publication(self) -> Publication:
        return Publication(self.endpoint.home.envoy, self.endpoint.home.logs)

    def _replica(self, version: str) -> Replica:
        replica = self.endpoint.state().replicas.get(version)
        if replica is None or not replica.alive():
            raise MetricsUnavailable(f"{version} does not run")
        return replica

    def _addresses(self, version: str) -> Addresses:
        replica = self._replica(version)
        return Addresses(replica.transformer.http_url, f"{LOCAL}:{replica.triton.metrics_port}")

    def _doors(self, rollout: Rollout) -> tuple[LocalSideDoor, LocalSideDoor]:
        stable, canary = (
            LocalSideDoor(version, self._replica(version).side_url)
            for version in (rollout.stable, rollout.canary)
        )
        return stable, canary


def _beside(state: State) -> str | None:
    """The version beside the current one; several, whatever they are, are none of a rollout's."""
    return " and ".join(version for version in state.weights if version != state.current) or None
