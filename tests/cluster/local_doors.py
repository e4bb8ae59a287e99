"""The way to the side doors of pods that are really transformers of this machine."""

from collections.abc import Mapping

from serving.kubernetes.api import Cluster, Object
from serving.kubernetes.seen import storage_uri_of
from serving.rollout.kserve.side_doors import SideDoors


class LocalDoors(SideDoors):
    """The pods' side doors, at ports of this machine that differ by version."""

    def __init__(self, cluster: Cluster, namespace: str, ports: Mapping[str, int]) -> None:
        super().__init__(cluster, namespace)
        self._ports = ports

    def port(self, pod: Object) -> int:
        return self._ports[str(storage_uri_of(pod)).rpartition("/")[2]]
