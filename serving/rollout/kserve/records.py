"""Rollouts as a cluster remembers them: a ConfigMap beside the InferenceService.

Not annotations of the InferenceService: KServe copies these into the pods, so that every change
would restart them. The ConfigMap goes with the InferenceService, which owns it.
"""

import json
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from recommender.errors import KuberecError
from serving.inference_service import FIELD_MANAGER
from serving.kubernetes.api import CONFIG_MAP, INFERENCE_SERVICE, Cluster, Object
from serving.rollout.record import Rollout, Wish

_T = TypeVar("_T")
KEEP = 10  # rollouts, the current one not counted
LIMIT_BYTES = 900_000  # an API server takes 1 MiB, all fields counted
_CURRENT, _HISTORY, _REQUEST = "rollout.json", "history.json", "request"
# Another owner than a rollout's, so that neither's apply takes the other's key away.
_OPERATOR = "kuberec-operator"


class RolloutRecords:
    """The ConfigMap `<service>-rollout`."""

    def __init__(self, cluster: Cluster, namespace: str, service: str) -> None:
        self._cluster, self._namespace, self._service = cluster, namespace, service
        self.name = f"{service}-rollout"
        self._earlier: tuple[str, list[Rollout]] | None = None

    def load(self) -> Rollout | None:
        """The latest rollout.

        Raises:
            KuberecError: what is there is none of this version of kuberec.
        """
        text = self._data().get(_CURRENT)
        return self._parse(text, Rollout.model_validate_json) if text else None

    def history(self) -> list[Rollout]:
        """Up to KEEP earlier ones and the latest, newest first; of the earlier ones not all looks.

        Raises:
            KuberecError: as `load`.
        """
        latest = self.load()
        return ([latest] if latest else []) + self._before()

    def save(self, rollout: Rollout, owner: Object) -> None:
        """Remember it as the latest; one of another id becomes history.

        Args:
            owner: the InferenceService.

        Raises:
            KuberecError: it is too large even without most of its looks.
        """
        if self._earlier is None or self._earlier[0] != rollout.id:
            latest, before = self.load(), self._before()
            if latest is not None and latest.id != rollout.id:
                before = [_compact(latest), *before]
            self._earlier = rollout.id, before[:KEEP]
        current, history = fit(rollout, self._earlier[1])
        metadata = owner["metadata"]
        reference = {
            "apiVersion": INFERENCE_SERVICE.group_version,
            "kind": INFERENCE_SERVICE.kind,
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        self._apply(
            {_CURRENT: current, _HISTORY: history}, FIELD_MANAGER, ownerReferences=[reference]
        )

    def requested(self) -> Wish | None:
        """What an operator asked for."""
        wish = self._data().get(_REQUEST)
        return "promote" if wish == "promote" else "abort" if wish == "abort" else None

    def request(self, wish: Wish | None) -> None:
        """Ask for it; None takes the request back."""
        found = self._cluster.find(CONFIG_MAP, self._namespace, self.name)
        if wish is None and (found is None or _REQUEST not in (found.get("data") or {})):
            return
        self._apply({_REQUEST: wish} if wish else {}, _OPERATOR)

    def _apply(self, data: dict[str, str], manager: str, **metadata: object) -> None:
        body = {
            "apiVersion": CONFIG_MAP.group_version,
            "kind": CONFIG_MAP.kind,
            "metadata": {"namespace": self._namespace, "name": self.name, **metadata},
            "data": data,
        }
        self._cluster.apply(CONFIG_MAP, body, manager, force=True)

    def _data(self) -> dict[str, str]:
        found = self._cluster.find(CONFIG_MAP, self._namespace, self.name)
        return dict((found or {}).get("data") or {})

    def _before(self) -> list[Rollout]:
        text = self._data().get(_HISTORY)
        if not text:
            return []
        return self._parse(
            text, lambda given: [Rollout.model_validate(each) for each in json.loads(given)]
        )

    def _parse(self, text: str, read: Callable[[str], _T]) -> _T:
        try:
            return read(text)
        except (ValidationError, ValueError, TypeError) as error:
            raise KuberecError(
                f"ConfigMap '{self.name}' in namespace '{self._namespace}' is not what this "
                f"version of kuberec writes ({str(error).splitlines()[0]}): let the version that "
                "wrote it finish its rollout, or delete the ConfigMap, and look at what "
                f"InferenceService '{self._service}' has under spec.canary"
            ) from error


def fit(rollout: Rollout, history: list[Rollout]) -> tuple[str, str]:
    """Both as JSON, within LIMIT_BYTES together: the oldest history goes first, then looks.

    Raises:
        KuberecError: without them it still does not fit.
    """
    history, rollout = list(history), rollout.model_copy(deep=True)
    while True:
        current = rollout.model_dump_json()
        before = json.dumps([each.model_dump(mode="json") for each in history])
        size = len(current.encode()) + len(before.encode())
        if size <= LIMIT_BYTES:
            return current, before
        if history and len(before) > LIMIT_BYTES // 4:
            history.pop()
        elif not _thin_out(rollout):
            raise KuberecError(
                f"the rollout's record has {size:,} bytes, and a ConfigMap takes {LIMIT_BYTES:,}: "
                "fewer steps, or a longer serving.rollout.look_every_s, make it smaller"
            )


def _thin_out(rollout: Rollout) -> bool:
    """Drop every other look of the step that has most; False: there are none to drop.

    A step's first and last look stay.
    """
    most = max(rollout.steps, key=lambda step: len(step.looks), default=None)
    if most is None or len(most.looks) <= 2:
        return False
    most.looks = [*most.looks[:-1:2], most.looks[-1]]
    return True


def _compact(rollout: Rollout) -> Rollout:
    """As history keeps it: of every step the last look, with its verdict; the settings stay."""
    compact = rollout.model_copy(deep=True)
    for step in compact.steps:
        step.looks = step.looks[-1:]
    return compact
