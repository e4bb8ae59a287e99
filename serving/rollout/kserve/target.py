"""KServe as a place for a rollout: two slots of an InferenceService, shares by its HTTPRoutes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from recommender.errors import Check, KuberecError, require
from serving.client import Door
from serving.inference_service import Serving, read_serving, version_of
from serving.kubernetes.api import Cluster, Object, connect
from serving.kubernetes.both_slots import Look
from serving.kubernetes.errors import ClusterError
from serving.kubernetes.gateway import find_door, wait_until_alone
from serving.kubernetes.model_store import publish
from serving.kubernetes.replicas import available
from serving.kubernetes.restarts import Restarts, restarted
from serving.kubernetes.scaling import remove_orphans, wake_autoscaler
from serving.kubernetes.seen import Wanted
from serving.kubernetes.waiting import Say, Superseded, wait_until_ready
from serving.rollout.checks import GATE
from serving.rollout.evidence import MetricsUnavailable, Pair, Request
from serving.rollout.kserve.canary import CanaryHand
from serving.rollout.kserve.expected import expected_of
from serving.rollout.kserve.memory import KServeMemory
from serving.rollout.kserve.prometheus import PrometheusEvidence, Side
from serving.rollout.kserve.side_doors import SideDoors, ask_both, ready_pods, sample
from serving.rollout.record import Rollout
from serving.rollout.settings import RolloutConfig
from serving.rollout.side_door import check_features, check_golden
from serving.rollout.target import Observed, RolloutUnderWay
from serving.settings import ServingConfig
from serving.version import load_version


class KServeTarget(KServeMemory):
    """The InferenceService of `config.kubernetes`.

    Args:
        cluster: by default that of KUBECONFIG, or the one that this runs in.
        version_dir: the canary, sealed; None where it was prepared before, or will not be.
        registry: the Feast registry to publish with it; None: it is published already.
        force: take over what somebody else set by hand.
        doors: the way to the pods' side doors, by default through the API server.
    """

    kind: Literal["embedded", "kserve"] = "kserve"

    def __init__(
        self,
        config: ServingConfig,
        cluster: Cluster | None = None,
        say: Say | None = None,
        *,
        version_dir: Path | None = None,
        registry: Path | None = None,
        force: bool = False,
        doors: SideDoors | None = None,
    ) -> None:
        super().__init__(cluster or connect(), config.kubernetes, say or (lambda message: None))
        self._config, where = config, config.kubernetes
        self._version_dir, self._registry = version_dir, registry
        self._doors = doors or SideDoors(self.cluster, where.namespace)
        self._hand = CanaryHand(self.cluster, where, self._say, self._attend, force)
        self._heeds_abort = True
        self._restarts: Restarts | None = None  # of the canary's containers, as the step began

    def observe(self) -> Observed:
        self.check()
        seen = self._hand.look()
        canary, share = seen.serving.canary, seen.shares.percent
        trouble = seen.canary_trouble
        if canary and not trouble and self._restarts is not None:
            trouble = restarted(self._canary_pods(canary), self._restarts)
        return Observed(
            stable=version_of(seen.serving.storage_uri),
            canary=version_of(canary.storage_uri) if canary else None,
            percent=share if canary else 0,
            wanted_percent=canary.percent if canary else 0,
            stable_ready=not seen.stable_trouble,
            canary_ready=canary is not None and not trouble,
            trouble="; ".join(filter(None, (seen.stable_trouble, trouble))),
        )

    def prepare(self, rollout: Rollout) -> list[Check]:
        if self._version_dir is None:
            raise KuberecError(
                f"{rollout.canary} was not prepared yet: run the rollout again, with the version"
            )
        where, limits = self._where, RolloutConfig.model_validate(rollout.config)
        version = load_version(self._version_dir)
        uri = publish(
            self._version_dir,
            self._registry,
            where.model_store,
            Path(where.model_store_mount),
            self._say,
        )
        seen = self._hand.look()
        serving = seen.serving
        if serving.canary is None:
            self._hand.await_stable(limits.stable_timeout_s)
            serving = self._hand.begin(uri)
        elif serving.canary.storage_uri != uri:
            raise Superseded(
                f"InferenceService '{where.inference_service}' has another canary meanwhile "
                f"({serving.canary.storage_uri})"
            )
        assert serving.canary is not None
        slot = serving.canary.slot
        rollout.where = self._addresses(seen) | {"slot": slot, "storage_uri": uri}
        self._say(f"{version.version} comes to slot {slot}, without requests")
        wanted = self._wanted(slot, uri)
        wait_until_ready(
            self.cluster, wanted, where.ready_timeout_s, self._say, attend=self._attend
        )
        wake_autoscaler(self.cluster, where.namespace, where.inference_service, slot, self._say)
        pod = ready_pods(self.cluster, wanted)[0]
        expected = expected_of(version, [pod])
        self._say(f"replaying {expected} on pod '{pod['metadata']['name']}'")
        try:
            call = self._doors.call(pod)
            checks = check_golden("canary", call, expected)
            checks.append(check_features("canary", call))
        except ValueError as error:
            raise ClusterError(f"pod '{pod['metadata']['name']}': {error}") from error
        require(GATE, checks)
        return checks

    def shift(self, rollout: Rollout, percent: int) -> None:
        limits = RolloutConfig.model_validate(rollout.config)
        self.patiently(lambda: self._require_ours(rollout))
        before = self.patiently(self._count_restarts)
        self.patiently(lambda: self._share(rollout, percent, limits))
        # Of pods that came meanwhile, what they needed to get ready does not count.
        self._restarts = self.patiently(self._count_restarts) | before

    def promote(self, rollout: Rollout) -> None:
        """After the apply there is no way back, and no error: what then is late is told."""
        where, limits = self._where, RolloutConfig.model_validate(rollout.config)

        def take_over() -> Serving:
            serving = self._hand.look().serving
            if serving.canary is None and version_of(serving.storage_uri) == rollout.canary:
                return serving  # done by then
            self._require_ours(rollout)
            return self._hand.take_over(limits.settle_s, limits.stable_timeout_s)

        serving = self.patiently(take_over)
        wanted = self._wanted(serving.slot, serving.storage_uri)
        try:
            wait_until_ready(
                self.cluster, wanted, where.ready_timeout_s, self._say, attend=self.check
            )
            wait_until_alone(self.cluster, where, serving.slot)
        except RolloutUnderWay:
            raise
        except KuberecError as error:
            self._say(f"{rollout.canary} is the stable version now, but: {error}")
        remove_orphans(self.cluster, where.namespace, self.service(), (serving.slot,), self._say)

    def abandon(self, rollout: Rollout) -> None:
        limits = RolloutConfig.model_validate(rollout.config)

        def leave() -> None:
            serving = self._hand.look().serving
            if serving.canary is not None:
                self._require_ours(rollout)
                self._share(rollout, 0, limits)
                self._hand.remove(limits.settle_s, limits.stable_timeout_s)
            elif version_of(serving.storage_uri) != rollout.stable:
                raise Superseded(
                    f"{version_of(serving.storage_uri)} is the stable version by now: roll "
                    f"{rollout.stable} out again to go back"
                )
            remove_orphans(
                self.cluster, self._where.namespace, self.service(), (serving.slot,), self._say
            )

        self._heeds_abort = False  # it is being done
        try:
            self.patiently(leave)
        finally:
            self._heeds_abort = True

    def evidence(self, rollout: Rollout) -> PrometheusEvidence:
        where = self._where
        stable_slot, canary_slot = (each.slot for each in self._both())

        def side(slot: str | None, version: str) -> Side:
            return Side(where.namespace, where.inference_service, slot, version)

        return PrometheusEvidence(
            where.prometheus,
            side(stable_slot, rollout.stable),
            side(canary_slot, rollout.canary),
        )

    def door(self) -> Door:
        return find_door(self.cluster, self._where)

    def live_requests(self, rollout: Rollout, limit: int) -> list[Request]:
        stable, canary = self._pods()
        return sample(self._doors, stable, canary, limit)

    def ask_both(self, rollout: Rollout, requests: Sequence[Request]) -> list[Pair]:
        stable, canary = self._pods()
        return ask_both(self._doors, stable, canary, list(requests))

    def _share(self, rollout: Rollout, percent: int, limits: RolloutConfig) -> None:
        alone = int(rollout.where.get("stable_pods") or 1)
        self._hand.share(percent, limits.stable_timeout_s, alone)

    def _both(self) -> tuple[Wanted, Wanted]:
        """Stable and the canary, as the InferenceService names them now."""
        try:
            serving = read_serving(self.service(anew=True))
        except ClusterError as error:
            raise MetricsUnavailable(str(error)) from error
        if serving.canary is None:
            raise MetricsUnavailable("there is no canary any more")
        return (
            self._wanted(serving.slot, serving.storage_uri),
            self._wanted(serving.canary.slot, serving.canary.storage_uri),
        )

    def _pods(self) -> tuple[list[Object], list[Object]]:
        """Ready pods of either version."""
        stable, canary = self._both()
        try:
            return ready_pods(self.cluster, stable), ready_pods(self.cluster, canary)
        except ClusterError as error:
            raise MetricsUnavailable(str(error)) from error

    def _addresses(self, seen: Look) -> dict[str, Any]:
        """For the record: where stable is."""
        return {
            "namespace": self._where.namespace,
            "inference_service": self._where.inference_service,
            "stable_slot": seen.serving.slot,
            "stable_storage_uri": seen.serving.storage_uri,
            "stable_pods": available(seen.stable),
        }

    def _attend(self) -> None:
        """While something is waited for: does the Lease hold, and has an operator enough of it?"""
        self.check()
        heeds = self._heeds_abort and self._held is not None
        if heeds and self._records.requested() == "abort":
            self._records.request(None)
            raise KuberecError("an operator asked for it (kuberec rollout abort)")
