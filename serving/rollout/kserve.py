"""Roll a model version out on a cluster: published, named in the InferenceService, watched, asked.

The first version, and one that serves already, are set and checked. A later one comes to the other
slot as a canary, and takes over by the state machine (machine.py, kserve_target.py).
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recommender.errors import Check, KuberecError, require
from serving.inference_service import (
    SLOTS,
    Serving,
    apply_serving,
    get_service,
    read_serving,
    version_of,
)
from serving.kubernetes.api import INFERENCE_SERVICE, Cluster, connect
from serving.kubernetes.canary import CanaryHand
from serving.kubernetes.gateway import find_door, wait_for_version
from serving.kubernetes.model_store import publish
from serving.kubernetes.scaling import wake_autoscaler
from serving.kubernetes.seen import Wanted, serving_uri
from serving.kubernetes.side_doors import SideDoors
from serving.kubernetes.waiting import Say, Superseded, wait_until_ready
from serving.rollout.checks import GATE, Door, ask_for_a_user, replay_through_gateway
from serving.rollout.kserve_target import KServeTarget
from serving.rollout.machine import abort, roll_out
from serving.rollout.record import Rollout
from serving.settings import KubernetesConfig, ServingConfig
from serving.version import ModelVersion, load_version

__all__ = ["KServeTarget", "rollout"]


def rollout(
    version_dir: Path,
    registry: Path | None,
    config: ServingConfig | None = None,
    say: Say | None = None,
    *,
    force: bool = False,
    cluster: Cluster | None = None,
    doors: SideDoors | None = None,
) -> dict[str, Any]:
    """Let a model version serve on a cluster, or leave what serves as it is.

    Where another version serves, the new one is a canary, judged by `config.rollout`. Everything
    that is done already is only checked, so that a rollout that was killed is continued by running
    it again.

    Args:
        version_dir: a sealed version.
        registry: the Feast registry to publish with it; None: it is published already.
        config: the run's `serving` section; its `kubernetes` says where.
        say: called with each line of progress.
        force: take over the version or the slot where somebody else set it by hand; and where the
            version that serves is not ready, put this one in its place, unjudged.
        cluster: by default that of KUBECONFIG, or the one that this runs in.
        doors: the way to the pods' side doors, by default through the API server.

    Returns:
        {version, reused, previous, url, grpc_url, host, storage_uri, slot, namespace,
        inference_service, rows, timeline}: rows are {name, value, limit, passed}; timeline is the
        rollout (record.py) as JSON, None where there was no canary.

    Raises:
        RolloutStopped: the canary was not promoted; says why, and has the timeline.
        RolloutUnderWay: another process rolls out here.
        GateFailed: an answer of a first version is off its limit. NotReady, GatewayError: it does
            not come to serve; says why. In these cases what served before is put back.
        VersionError, StoreError: nothing could be published. Conflict: somebody else set the
            version. Superseded: somebody else does now. ClusterError: the API refuses, or is not
            reached.
    """
    config, say = config or ServingConfig(), say or (lambda message: None)
    where, cluster = config.kubernetes, cluster or connect()
    version = load_version(version_dir)
    before = read_serving(get_service(cluster, where.namespace, where.inference_service))
    target = KServeTarget(
        config,
        cluster,
        say,
        version_dir=version_dir,
        registry=registry,
        force=force,
        doors=doors,
    )
    reused = version_of(before.storage_uri) == version.version
    if reused:
        _end_other(target, before, say)
    if reused or not _serves(cluster, where, before, force):
        with target.exclusive():
            return _serve_directly(version, version_dir, registry, config, say, cluster, force)
    done = roll_out(target, version.version, version.golden(), config.rollout, say)
    serving = read_serving(get_service(cluster, where.namespace, where.inference_service))
    return _result(
        find_door(cluster, where),
        where,
        serving,
        version=version.version,
        reused=False,
        previous=done.stable,
        rows=_rows(done),
        timeline=done.model_dump(mode="json"),
    )


def _end_other(target: KServeTarget, before: Serving, say: Say) -> None:
    """The stable version is asked for, so a canary beside it is not."""
    last = target.load()
    if last is not None and last.unfinished:
        say(f"{last.canary} is to be rolled back first")
        abort(target, say)
    elif before.canary is not None:
        raise KuberecError(
            f"InferenceService has a canary under way ({version_of(before.canary.storage_uri)} at "
            f"{before.canary.percent} %), and no rollout of ours did that: promote it or give it "
            "up first, as whoever began it would"
        )


def _serves(cluster: Cluster, where: KubernetesConfig, before: Serving, force: bool) -> bool:
    """Whether there is a version to compare with: KServe makes routes once one is ready."""
    if before.storage_uri is None:
        return False
    if before.canary is not None:
        return True
    seen = CanaryHand(cluster, where, lambda line: None, lambda: None).look()
    if force and seen.stable_trouble:
        return False
    return bool(seen.shares.percents)


def _serve_directly(
    version: ModelVersion,
    version_dir: Path,
    registry: Path | None,
    config: ServingConfig,
    say: Say,
    cluster: Cluster,
    force: bool,
) -> dict[str, Any]:
    """Without a canary: set it where it is not, wait, and ask it through the gateway."""
    where = config.kubernetes
    before = read_serving(get_service(cluster, where.namespace, where.inference_service))
    uri = publish(version_dir, registry, where.model_store, Path(where.model_store_mount), say)
    slot = before.slot or SLOTS[0]
    wanted = Wanted(where.namespace, where.inference_service, slot, uri)
    reused = before.storage_uri == uri and before.slot is not None
    previous = (
        serving_uri(cluster, wanted, other_than=uri)
        if before.storage_uri in (None, uri)
        else before.storage_uri
    )
    with _put_back_on_failure(cluster, where, wanted, previous, say):
        if not reused:
            say(f"setting {version.version} in InferenceService '{where.inference_service}'")
            serving = Serving(slot, uri)
            apply_serving(cluster, where.namespace, where.inference_service, serving, force=force)
        wait_until_ready(cluster, wanted, where.ready_timeout_s, say)
        wake_autoscaler(cluster, where.namespace, where.inference_service, slot, say)
        door = find_door(cluster, where)
        wait_for_version(door, version.version, where.answer_timeout_s, say)
        golden = version.golden()
        say(f"replaying {len(golden)} golden requests through the gateway, {door.address}")
        checks: list[Check] = replay_through_gateway(door, golden, config, version.version)
        checks.append(ask_for_a_user("gateway", door, config, has_store=True))
        require(GATE, checks)
    return _result(
        door,
        where,
        Serving(slot, uri),
        version=version.version,
        reused=reused,
        previous=version_of(previous),
        rows=[check.as_dict() for check in checks],
        timeline=None,
    )


def _result(
    door: Door, where: KubernetesConfig, serving: Serving, **more: object
) -> dict[str, Any]:
    return {
        **more,
        "url": f"{'https' if door.tls else 'http'}://{door.host}",
        "grpc_url": door.address,
        "host": door.host,
        "storage_uri": serving.storage_uri,
        "slot": serving.slot,
        "namespace": where.namespace,
        "inference_service": where.inference_service,
    }


def _rows(done: Rollout) -> list[dict[str, Any]]:
    """Checks before the first step, and those of the last step's verdict."""
    last = done.steps[-1].verdict if done.steps else None
    judged = [
        Check(
            row.name,
            "not known" if row.canary is None else row.canary,
            row.limit,
            row.outcome == "pass",
        )
        for row in (last.checks if last else [])
    ]
    return [*done.prepared, *(check.as_dict() for check in judged)]


@contextlib.contextmanager
def _put_back_on_failure(
    cluster: Cluster, where: KubernetesConfig, wanted: Wanted, previous: str | None, say: Say
) -> Iterator[None]:
    """After any error the InferenceService names what served before; the error tells so."""
    try:
        yield
    except Superseded:
        raise
    except BaseException as error:
        note = _put_back(cluster, where, wanted, previous, say)
        if note and isinstance(error, KuberecError):
            error.args = (f"{error}\n{note}",)
        elif note:
            say(note)
        raise


def _put_back(
    cluster: Cluster, where: KubernetesConfig, wanted: Wanted, previous: str | None, say: Say
) -> str:
    """What was done about it; "" if there was nothing to do."""
    try:
        service = cluster.get(INFERENCE_SERVICE, where.namespace, where.inference_service)
        if read_serving(service).storage_uri != wanted.storage_uri:
            return ""  # it was not set, or somebody else set another
        if previous is None or previous == wanted.storage_uri:
            return (
                f"No other version served, so {version_of(wanted.storage_uri)} stays set: its "
                "pods start once the cause is gone; then run this again."
            )
        serving = Serving(wanted.slot, previous)
        apply_serving(cluster, where.namespace, where.inference_service, serving)
        say(f"putting {version_of(previous)} back")
        wait_until_ready(cluster, wanted._replace(storage_uri=previous), where.ready_timeout_s, say)
    except KuberecError as error:
        return (
            f"Version {version_of(previous)} could not be put back: {error}\n"
            "Roll it out again (`kuberec deploy`) once that is mended."
        )
    return f"Version {version_of(previous)} has been put back, and serves."
