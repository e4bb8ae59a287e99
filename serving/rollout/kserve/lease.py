"""A Lease of the Kubernetes API: of several processes one alone may roll out at an endpoint.

Who holds it renews it from a thread. Whether a holder still lives is told by watching whether it
renews, not by comparing clocks, which differ from machine to machine.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from serving.kubernetes.api import LEASE, Cluster, Object
from serving.kubernetes.errors import Changed, ClusterError, NotFound
from serving.process import ProcessRef, alive, this_process
from serving.rollout.target import RolloutUnderWay

DURATION_S = 30  # from the last renewal on
RENEW_EVERY_S = 10.0
# Who holds it stops believing so much earlier than others may take it: a look at the endpoint and
# a change of it lie between the belief and the deed.
MARGIN_S = 10.0
# A renewal that is so old by our own clock is old by any.
_FORGOTTEN_S = 600.0
_POLL_S = 1.0


class Hold:
    """A Lease that this process has, until `release`.

    Args:
        renewed: when it was asked for, by the monotonic clock in seconds.
    """

    def __init__(self, cluster: Cluster, lease: Object, renewed: float) -> None:
        self._cluster, self._lease, self._renewed = cluster, lease, renewed
        self._me = str(lease["spec"]["holderIdentity"])
        self._lost = ""
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Called before whatever changes the endpoint.

        Raises:
            RolloutUnderWay: another process has it now, since this one could not renew in time.
            ClusterError: it runs out, and the API is not reached to have it anew.
        """
        if not self._lost and time.monotonic() - self._renewed > DURATION_S - MARGIN_S:
            self._renew()
        if self._lost:
            raise RolloutUnderWay(
                f"this rollout could not renew its Lease '{self._lease['metadata']['name']}' in "
                f"{DURATION_S} s, and {self._lost} has it now: this one leaves everything to that"
            )

    def release(self) -> None:
        """Let the next one have it at once."""
        self._ended.set()
        self._thread.join()
        with self._turn, contextlib.suppress(ClusterError):
            if not self._lost:
                self._lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                self._cluster.replace(LEASE, self._lease)

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_EVERY_S) and not self._lost:
            with contextlib.suppress(ClusterError):  # until it has run out, see `check`
                self._renew()

    def _renew(self) -> None:
        with self._turn:
            # Before the call: the server may have done it long before its answer is here.
            asked = time.monotonic()
            self._lease["spec"]["renewTime"] = _now()
            try:
                self._lease = self._cluster.replace(LEASE, self._lease)
            except (Changed, NotFound):
                self._look_again()
                return
            self._renewed = asked

    def _look_again(self) -> None:
        """Somebody changed it: to have it, or only a label of it."""
        metadata = self._lease["metadata"]
        found = self._cluster.find(LEASE, metadata["namespace"], metadata["name"])
        if found is None:
            self._lost = "nobody (it was deleted)"
        elif found["spec"].get("holderIdentity") != self._me:
            self._lost = str(found["spec"].get("holderIdentity") or "nobody")
        else:
            self._lease = found


@contextmanager
def hold(cluster: Cluster, namespace: str, name: str) -> Iterator[Hold]:
    """Have the Lease for a block. One of a process that was killed is taken over.

    Raises:
        RolloutUnderWay: another process has it, and lives.
        ClusterError: the API refuses.
    """
    held = Hold(cluster, *_take(cluster, namespace, name))
    try:
        yield held
    finally:
        held.release()


def holder(cluster: Cluster, namespace: str, name: str) -> str | None:
    """Who has it, and seems to live; None: nobody."""
    found = cluster.find(LEASE, namespace, name)
    if found is None or not _holder(found) or _is_dead(found, DURATION_S):
        return None
    return _words(found)


def _take(cluster: Cluster, namespace: str, name: str) -> tuple[Object, float]:
    """The Lease, and when it was asked for."""
    found = cluster.find(LEASE, namespace, name)
    if found is not None and _holder(found) and not _is_dead(found, _FORGOTTEN_S):
        found = _watch(cluster, found)
    asked, spec = time.monotonic(), _spec()
    try:
        if found is None:
            body = {
                "apiVersion": LEASE.group_version,
                "kind": LEASE.kind,
                "metadata": {"namespace": namespace, "name": name},
                "spec": spec | {"leaseTransitions": 0},
            }
            return cluster.create(LEASE, body), asked
        transitions = int(found["spec"].get("leaseTransitions") or 0) + 1
        body = found | {"spec": spec | {"leaseTransitions": transitions}}
        return cluster.replace(LEASE, body), asked
    except Changed as error:
        other = cluster.find(LEASE, namespace, name)
        raise _refusal(other or {"spec": {}}, name) from error


def _spec() -> dict[str, Any]:
    now = _now()
    return {
        "holderIdentity": identity(),
        "leaseDurationSeconds": DURATION_S,
        "acquireTime": now,
        "renewTime": now,
    }


def _watch(cluster: Cluster, found: Object) -> Object:
    """The Lease, once its holder has not renewed it for as long as it may.

    Raises:
        RolloutUnderWay: it does renew.
    """
    metadata, deadline = found["metadata"], time.monotonic() + DURATION_S
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        again = cluster.find(LEASE, metadata["namespace"], metadata["name"])
        if again is None:
            break  # replacing it will say so
        if not _holder(again):
            return again
        if again["spec"].get("renewTime") != found["spec"].get("renewTime"):
            raise _refusal(again, str(metadata["name"]))
    return found


def _refusal(lease: Object, name: str) -> RolloutUnderWay:
    return RolloutUnderWay(
        f"another process rolls out here: {_words(lease)} (Lease '{name}'). Wait for it, or ask "
        "it to end by `kuberec rollout abort`; if it was killed, this goes on after "
        f"{DURATION_S} s without a renewal"
    )


def _words(lease: Object) -> str:
    spec = lease["spec"]
    return f"{spec.get('holderIdentity') or 'unknown'}, since {spec.get('acquireTime')}"


def _holder(lease: Object) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def identity() -> str:
    """This process, as a Lease and an event name it: host/pid/start. A pod is a host."""
    me = this_process()
    return f"{socket.gethostname()}/{me.pid}/{me.started}"


def _is_dead(lease: Object, after_s: float) -> bool:
    """By our clock for so long without renewal; or a process of this machine that has ended."""
    host, _, rest = _holder(lease).partition("/")
    pid, _, started = rest.partition("/")
    if host == socket.gethostname() and pid.isdigit() and started.isdigit():
        return not alive(ProcessRef(pid=int(pid), started=int(started)))
    renewed = datetime.fromisoformat(str(lease["spec"].get("renewTime") or "1970-01-01T00:00:00Z"))
    return (datetime.now(UTC) - renewed).total_seconds() > after_s


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
