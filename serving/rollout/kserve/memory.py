"""What a cluster remembers of rollouts, and who is at it: ConfigMap, Lease, events."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from recommender.errors import KuberecError
from serving.inference_service import Canary, read_serving, version_of
from serving.kubernetes.api import INFERENCE_SERVICE, Cluster, Object
from serving.kubernetes.errors import Away, ClusterError
from serving.kubernetes.replicas import release
from serving.kubernetes.restarts import restarts
from serving.kubernetes.seen import Wanted, of_version, pods_of
from serving.kubernetes.waiting import Say, Superseded
from serving.rollout.kserve.events import announce
from serving.rollout.kserve.lease import Hold, hold, holder
from serving.rollout.kserve.records import RolloutRecords
from serving.rollout.record import Note, Rollout, Wish
from serving.settings import KubernetesConfig

# The API server may be out of reach for so long (a control plane that is upgraded).
_OUTAGE_S = 60.0
_T = TypeVar("_T")


class KServeMemory:
    """The part of KServeTarget that changes nothing of what serves."""

    def __init__(self, cluster: Cluster, where: KubernetesConfig, say: Say) -> None:
        self.cluster, self._where, self._say = cluster, where, say
        self._records = RolloutRecords(cluster, where.namespace, where.inference_service)
        self._held: Hold | None = None
        self._owner: Object | None = None

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the Lease `<service>-rollout`; in the end the autoscalers are free again."""
        with hold(self.cluster, self._where.namespace, self._records.name) as self._held:
            try:
                yield
            finally:
                with suppress(KuberecError):  # another process has the Lease, and may need them
                    self.check()
                    release(
                        self.cluster,
                        self._where.namespace,
                        self._where.inference_service,
                        self._say,
                    )
                self._held = None

    def holder(self) -> str | None:
        return holder(self.cluster, self._where.namespace, self._records.name)

    def load(self) -> Rollout | None:
        return self.patiently(self._records.load)

    def history(self) -> list[Rollout]:
        return self.patiently(self._records.history)

    def save(self, rollout: Rollout) -> None:
        self.check()
        self.patiently(lambda: self._records.save(rollout, self.service()))

    def requested(self) -> Wish | None:
        return self.patiently(self._records.requested)

    def request(self, what: Wish | None) -> None:
        self.patiently(lambda: self._records.request(what))

    def announce(self, rollout: Rollout, note: Note) -> None:
        try:
            announce(self.cluster, self.service(), note.reason, note.message, note.warning)
        except ClusterError:
            return

    def service(self, anew: bool = False) -> Object:
        """The InferenceService, as it was read once, or now."""
        if self._owner is None or anew:
            where = self._where
            self._owner = self.cluster.get(
                INFERENCE_SERVICE, where.namespace, where.inference_service
            )
        return self._owner

    def _require_ours(self, rollout: Rollout) -> None:
        canary = read_serving(self.service(anew=True)).canary
        if canary is None or version_of(canary.storage_uri) != rollout.canary:
            found = version_of(canary.storage_uri) if canary else "none"
            raise Superseded(
                f"the canary of InferenceService '{self._where.inference_service}' is not "
                f"{rollout.canary} any more ({found})"
            )

    def _wanted(self, slot: str | None, storage_uri: str | None) -> Wanted:
        where = self._where
        return Wanted(where.namespace, where.inference_service, slot, str(storage_uri))

    def _canary_pods(self, canary: Canary) -> list[Object]:
        wanted = self._wanted(canary.slot, canary.storage_uri)
        return of_version(pods_of(self.cluster, wanted.namespace, wanted.deployment), wanted)

    def _count_restarts(self) -> dict[tuple[str, str], int]:
        canary = read_serving(self.service(anew=True)).canary
        return restarts(self._canary_pods(canary)) if canary else {}

    def check(self) -> None:
        """Raises RolloutUnderWay where another process has the Lease by now."""
        if self._held is not None:
            self._held.check()

    def patiently(self, call: Callable[[], _T]) -> _T:
        """`call`, again where the API server was away meanwhile: it may be called twice."""
        since = time.monotonic()
        while True:
            began = time.monotonic()
            try:
                return call()
            except Away:
                if began - since > _OUTAGE_S:
                    raise
            if time.monotonic() - began > _OUTAGE_S:
                since = time.monotonic()  # it had been at work before that
            time.sleep(1.0)
