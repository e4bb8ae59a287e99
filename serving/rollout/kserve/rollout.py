"""Roll a model version out on a cluster: published, named in the InferenceService, watched, asked.

The first version, and one that serves already, are set and checked. A later one comes to the other
slot as a canary, and takes over by the state machine (machine.py, target.py).
"""

import contextlib
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError
from serving.inference_service import Serving, get_service, read_serving, version_of
from serving.kubernetes.api import Cluster, connect
from serving.kubernetes.both_slots import look_at_both
from serving.kubernetes.gateway import find_door
from serving.kubernetes.waiting import Say
from serving.rollout.kserve.direct import result, serve_directly
from serving.rollout.kserve.side_doors import SideDoors
from serving.rollout.kserve.target import KServeTarget
from serving.rollout.machine import abort, promote, roll_out
from serving.rollout.outcome import RolloutStopped
from serving.rollout.outcome import rows as rows_of
from serving.rollout.record import Rollout
from serving.settings import KubernetesConfig, ServingConfig
from serving.version import load_version


def rollout(
    version_dir: Path,
    registry: Path | None,
    config: ServingConfig | None = None,
    say: Say | None = None,
    *,
    force: bool = False,
    canary: bool = True,
    tell: Say | None = None,
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
        canary: False: an emergency, in which what serves answers wrongly. The version takes its
            place at once, by a rolling update of its pods, unjudged, and is asked then. A rollout
            that no process is at any more is rolled back first.
        tell: called with each step and verdict of a canary; by default `say` is.
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
    tell = tell or say
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
    last, resumed = target.load(), False
    if last is not None and last.unfinished and _took_over(last, before):
        # Killed after the step from which there is no way back: it is to be cleaned up after.
        resumed = canary and last.canary == version.version
        if not resumed:
            promote(target, tell)
    elif version_of(before.storage_uri) == version.version or not canary:
        before = _end_other(target, before, tell)
    reused = version_of(before.storage_uri) == version.version
    direct = reused or not canary or not _serves(cluster, where, before, force)
    if direct and not resumed:
        with target.exclusive():
            return serve_directly(version, version_dir, registry, config, say, cluster, force)
    done = roll_out(target, version.version, version.golden(), config.rollout, tell)
    serving = read_serving(get_service(cluster, where.namespace, where.inference_service))
    return result(
        find_door(cluster, where),
        where,
        serving,
        version=version.version,
        reused=False,
        previous=done.stable,
        rows=rows_of(done),
        timeline=done.model_dump(mode="json"),
    )


def _took_over(last: Rollout, before: Serving) -> bool:
    """Whether the canary of a rollout that was killed is the stable version by now."""
    return last.phase == "promoting" and version_of(before.storage_uri) == last.canary


def _end_other(target: KServeTarget, before: Serving, tell: Say) -> Serving:
    """There is to be no canary beside what is to serve; what serves then."""
    last = target.load()
    if last is not None and last.unfinished:
        tell(f"{last.canary} is to be rolled back first")
        with contextlib.suppress(RolloutStopped):  # taken over by somebody, see below
            abort(target, tell)
        before = read_serving(target.service(anew=True))
    if before.canary is not None:
        raise KuberecError(
            f"InferenceService has a canary under way ({version_of(before.canary.storage_uri)} at "
            f"{before.canary.percent} %), and no rollout of ours did that: promote it or give it "
            "up first, as whoever began it would"
        )
    return before


def _serves(cluster: Cluster, where: KubernetesConfig, before: Serving, force: bool) -> bool:
    """Whether there is a version to compare with: KServe makes routes once one is ready."""
    if before.storage_uri is None:
        return False
    if before.canary is not None:
        return True
    seen = look_at_both(cluster, where.namespace, where.inference_service)
    if force and seen.stable_trouble:
        return False
    return bool(seen.shares.percents)
