"""A version set in the InferenceService without a canary: a first one, or one that serves.

What served before, if anything did, is put back after any error.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recommender.errors import Check, KuberecError, require
from serving.client import Door
from serving.inference_service import (
    SLOTS,
    Serving,
    apply_serving,
    get_service,
    read_serving,
    version_of,
)
from serving.kubernetes.api import INFERENCE_SERVICE, Cluster
from serving.kubernetes.gateway import find_door, wait_for_version
from serving.kubernetes.model_store import publish
from serving.kubernetes.scaling import wake_autoscaler
from serving.kubernetes.seen import Wanted, serving_uri
from serving.kubernetes.waiting import Say, Superseded, wait_until_ready
from serving.rollout.checks import GATE, ask_for_a_user, replay_through_gateway
from serving.rollout.kserve.expected import expected_of
from serving.rollout.kserve.side_doors import ready_pods
from serving.settings import KubernetesConfig, ServingConfig
from serving.version import ModelVersion


def serve_directly(
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
        expected = expected_of(version, ready_pods(cluster, wanted))
        say(f"replaying {expected} through the gateway, {door.address}")
        checks: list[Check] = replay_through_gateway(door, expected, config, version.version)
        checks.append(ask_for_a_user("gateway", door, config, has_store=True))
        require(GATE, checks)
    return result(
        door,
        where,
        Serving(slot, uri),
        version=version.version,
        reused=reused,
        previous=version_of(previous),
        rows=[check.as_dict() for check in checks],
        timeline=None,
    )


def result(door: Door, where: KubernetesConfig, serving: Serving, **more: object) -> dict[str, Any]:
    """What a rollout returns (rollout.py), of where it serves, and `more`."""
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
