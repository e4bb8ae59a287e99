"""A canary of an InferenceService: its share, its promotion, its end, in KServe's order.

KServe takes a canary's pods away before it changes the routes, and does not touch the routes at all
while stable's predictor is not ready. So nobody is taken away until the HTTPRoute has no requests
for it, the gateway says that it has taken the route and has had some seconds to follow, and stable
is ready: that loses no request.
"""

import time
from collections.abc import Callable

from recommender.errors import KuberecError
from serving.inference_service import Canary, Serving, apply_serving, deployment_name, version_of
from serving.kubernetes.api import DEPLOYMENT, Cluster
from serving.kubernetes.both_slots import Look, look_at_both
from serving.kubernetes.errors import Away
from serving.kubernetes.gateway import GatewayError
from serving.kubernetes.replicas import Scaler, available, needed
from serving.kubernetes.waiting import Say, Superseded
from serving.rollout.target import StableNotReady
from serving.settings import KubernetesConfig

_POLL_S = 0.5
# With a canary that is given up clients are not left for longer, where stable lacks pods: they
# start in less where nodes have room.
_BACK_S = 120.0


class CanaryHand:
    """Changes what an InferenceService serves.

    Args:
        attend: called again and again while something is waited for; what it raises ends the wait.
        force: take over what another field manager set.
    """

    def __init__(
        self,
        cluster: Cluster,
        where: KubernetesConfig,
        say: Say,
        attend: Callable[[], None],
        force: bool = False,
    ) -> None:
        self._cluster, self._where = cluster, where
        self._say, self._attend, self._force = say, attend, force
        self._scaler = Scaler(cluster, where.namespace, where.inference_service, say, attend)

    def look(self) -> Look:
        """What is there now.

        Raises:
            ClusterError
        """
        where = self._where
        return look_at_both(self._cluster, where.namespace, where.inference_service)

    def await_stable(self, timeout_s: float) -> None:
        """Until stable is ready.

        Raises:
            StableNotReady: not within `timeout_s`.
        """
        begin, told = time.monotonic(), ""
        while why := self.look().stable_trouble:
            self._attend()
            if why != told:
                self._say(f"waiting for stable, which is not ready: {why}")
                told = why
            if time.monotonic() - begin > timeout_s:
                raise StableNotReady(
                    f"the version that serves is not ready, so that none can be judged beside it: "
                    f"{why} ({timeout_s:g} s: stable_timeout_s). Mend it; or, if it is not to be "
                    "mended, `kuberec deploy --force` puts the new one in its place, unjudged"
                )
            time.sleep(_POLL_S)

    def begin(self, storage_uri: str) -> Serving:
        """Let the version run in the free slot, without a request.

        Raises:
            Conflict: somebody else owns what a promotion would set, so that there is no use in it.
        """
        before = self.look().serving
        slot = before.free_slot
        serving = before._replace(canary=Canary(slot, storage_uri, 0))
        self._apply(Serving(slot, storage_uri), dry_run=True)
        self._apply(serving)
        return serving

    def share(self, percent: int, stable_timeout_s: float, alone: int = 1) -> None:
        """Give the canary that share of the requests; returns when the routes say so.

        Who gets more has the pods for it before.

        Args:
            alone: pods that stable had when it served alone.

        Raises:
            StableNotReady: for so long; the share is asked for, and the routes may follow.
            GatewayError: stable is ready, and the routes do not follow.
            KuberecError: the canary does not come to the pods that it needs.
        """
        seen = self.look()
        serving = seen.serving
        if serving.canary is None:
            raise Superseded("the canary was taken away by somebody else")
        if percent > seen.shares.percent:
            self._fit_canary(seen, percent, alone)
        elif percent < seen.shares.percent:
            self._fit_stable(seen, percent, alone, min(stable_timeout_s, _BACK_S))
        if (serving.canary.percent, serving.canary.min_replicas) != (percent, 1):
            self._apply(serving._replace(canary=serving.canary._replace(percent=percent)))
        self._await_share(percent, stable_timeout_s)

    def take_over(self, settle_s: float, stable_timeout_s: float) -> Serving:
        """Make the canary the stable version, after `share(100)`.

        Raises:
            StableNotReady, GatewayError: nothing is changed.
        """
        serving = self._settled(100, settle_s, stable_timeout_s)
        if serving.canary is None:
            raise Superseded("the canary was taken away by somebody else")
        promoted = Serving(serving.canary.slot, serving.canary.storage_uri)
        self._apply(promoted)
        return promoted

    def remove(self, settle_s: float, stable_timeout_s: float) -> None:
        """Take the canary away, after `share(0)`; returns when its pods go.

        Raises:
            StableNotReady, GatewayError: nothing is taken away.
        """
        serving = self._settled(0, settle_s, stable_timeout_s)
        if serving.canary is None:
            return
        self._apply(serving._replace(canary=None))
        deadline = time.monotonic() + self._where.answer_timeout_s
        name = deployment_name(self._where.inference_service, serving.canary.slot)
        while found := self._cluster.find(DEPLOYMENT, self._where.namespace, name):
            if found["metadata"].get("deletionTimestamp"):
                return
            if time.monotonic() > deadline:
                self._say(
                    f"Deployment '{name}' of the canary is still there; it "
                    "gets no requests, and KServe has been told to take it away"
                )
                return
            time.sleep(_POLL_S)

    def _fit_canary(self, seen: Look, percent: int, alone: int) -> None:
        count = needed(percent, alone, available(seen.stable), 100 - seen.shares.percent)
        slot = seen.serving.canary.slot if seen.serving.canary else None
        if why := self._scaler.bring(slot, count, self._where.ready_timeout_s):
            raise KuberecError(f"for {percent} % of the requests, {why}")

    def _fit_stable(self, seen: Look, percent: int, alone: int, timeout_s: float) -> None:
        """What it lacks then does not keep requests from it: its canary is given up.

        One that does not answer at all is waited for elsewhere; from a canary that does not answer
        KServe takes the requests by itself.
        """
        count = needed(100 - percent, alone, available(seen.canary), seen.shares.percent)

        def worth() -> bool:
            now = self.look()
            return bool(available(now.stable)) and not now.canary_trouble

        if worth() and (why := self._scaler.bring(seen.serving.slot, count, timeout_s, worth)):
            self._say(f"stable gets {100 - percent} % all the same: {why}")

    def _settled(self, percent: int, settle_s: float, stable_timeout_s: float) -> Serving:
        """What serves, once the gateway has had `settle_s` at that share and all is well still."""
        while True:
            self._await_share(percent, stable_timeout_s)
            until = time.monotonic() + settle_s
            while time.monotonic() < until:
                self._attend()
                time.sleep(min(_POLL_S, settle_s))
            seen = self.look()
            well = not seen.stable_trouble and (percent == 0 or not seen.canary_trouble)
            if well and seen.shares.all_at(percent):
                return seen.serving

    def _await_share(self, percent: int, stable_timeout_s: float) -> None:
        """Until all routes give the canary that share, and who has requests is ready."""
        told, begin = "", time.monotonic()
        deadline = begin + self._where.answer_timeout_s
        while True:
            try:
                self._attend()
                seen = self.look()
            except Away:
                if time.monotonic() > begin + stable_timeout_s:
                    raise
                time.sleep(_POLL_S)
                continue
            if seen.serving.canary is None and percent:
                raise Superseded("the canary was taken away by somebody else")
            why = seen.stable_trouble
            if not why and seen.shares.all_at(percent) and (not percent or not seen.canary_trouble):
                return
            now = time.monotonic()
            if why:
                deadline = now + self._where.answer_timeout_s
                state = (
                    f"stable ({version_of(seen.serving.storage_uri)}) is not ready; while it is "
                    f"not, KServe leaves the routes as they are, and nothing is taken away: {why}"
                )
                if now > begin + stable_timeout_s:
                    raise StableNotReady(f"{state} ({stable_timeout_s:g} s: stable_timeout_s)")
            else:
                state = (
                    f"waiting for HTTPRoute '{self._where.inference_service}' to give the canary "
                    f"{percent} % (it has {seen.shares.percent} %)"
                )
                if seen.shares.behind:
                    state += f"; {seen.shares.behind}"
                if percent and seen.canary_trouble:
                    state += f"; the canary is not ready: {seen.canary_trouble}"
                if now > deadline:
                    raise GatewayError(f"{state}: {self._where.answer_timeout_s:g} s are over")
            if state != told and now - begin > 1.0:
                self._say(state)
                told = state
            time.sleep(_POLL_S)

    def _apply(self, serving: Serving, dry_run: bool = False) -> None:
        self._attend()
        where = self._where
        apply_serving(
            self._cluster,
            where.namespace,
            where.inference_service,
            serving,
            force=self._force,
            dry_run=dry_run,
        )
