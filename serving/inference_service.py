"""The InferenceService: what of it a rollout owns, by KServe's typed SDK and server-side apply.

The manifests own its shape (containers, resources, volumes, annotations); a rollout owns
`spec.predictor.name` (the slot), `spec.predictor.model.storageUri` (the version) and, while there
is one, `spec.canary`. It sets no annotation: KServe copies those of an InferenceService into the
pods, so that to change one would restart them.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any, NamedTuple

from serving.kubernetes.api import (
    INFERENCE_SERVICE,
    SERVING_RUNTIME,
    Cluster,
    Object,
)
from serving.kubernetes.errors import ClusterError, Forbidden, NotFound

FIELD_MANAGER = "kuberec-rollout"
MODEL_FORMAT = "triton"
SLOTS = ("blue", "green")  # predictor names; Deployments are <service>-<slot>-predictor


class Canary(NamedTuple):
    """A version in the other slot, with a share of the traffic."""

    slot: str
    storage_uri: str
    percent: int
    min_replicas: int = 1


class Serving(NamedTuple):
    """What an InferenceService says it serves: its spec, as far as a rollout owns it."""

    slot: str | None
    storage_uri: str | None
    canary: Canary | None = None

    def uri_of(self, slot: str | None) -> str | None:
        """Which version a slot is to have."""
        if self.canary is not None and self.canary.slot == slot:
            return self.canary.storage_uri
        return self.storage_uri if self.slot == slot else None

    @property
    def free_slot(self) -> str:
        """Where a canary comes to."""
        return next(slot for slot in SLOTS if slot != self.slot)


def deployment_name(service: str, slot: str | None) -> str:
    """Of a predictor, and of its Service; pods carry the label app=isvc.<this>."""
    return f"{service}-{slot}-predictor" if slot else f"{service}-predictor"


def version_of(storage_uri: str | None) -> str | None:
    """The model version's id, the last part of its address."""
    return storage_uri.rstrip("/").rpartition("/")[2] if storage_uri else None


def kserve_models() -> Any:
    """`kserve.models` without the rest of kserve.

    The rest takes seconds to import and registers protobuf messages by names that tritonclient's
    gRPC module registers too, so that one process could not have both. Whoever imports kserve
    later finds everything as it was.
    """
    if "kserve" in sys.modules:
        return importlib.import_module("kserve.models")
    spec = importlib.util.find_spec("kserve")
    if spec is None:
        raise ClusterError("the package 'kserve' is not installed: `make install` does it")
    package = ModuleType("kserve")
    package.__path__ = list(spec.submodule_search_locations or [])
    sys.modules["kserve"] = package
    try:
        return importlib.import_module("kserve.models")
    finally:
        del sys.modules["kserve"]


def desired(namespace: str, name: str, serving: Serving) -> Object:
    """The part of the InferenceService that a rollout applies, and nothing beside it."""
    from kubernetes.client import ApiClient, Configuration, V1ObjectMeta

    models = kserve_models()
    # The format is the manifests' to say; the SDK alone would insist on it.
    lenient = Configuration()
    lenient.client_side_validation = False

    def model(uri: str | None, **required: Any) -> Any:
        given = {"name": None, **required}
        return models.V1beta1ModelSpec(storage_uri=uri, local_vars_configuration=lenient, **given)

    canary = serving.canary
    service = models.V1beta1InferenceService(
        api_version=INFERENCE_SERVICE.group_version,
        kind=INFERENCE_SERVICE.kind,
        metadata=V1ObjectMeta(name=name, namespace=namespace),
        spec=models.V1beta1InferenceServiceSpec(
            predictor=models.V1beta1PredictorSpec(
                name=serving.slot, model=model(serving.storage_uri)
            ),
            canary=canary
            and [
                models.V1beta1CanarySpec(
                    traffic_percent=canary.percent,
                    predictor=models.V1beta1PredictorSpec(
                        name=canary.slot,
                        min_replicas=canary.min_replicas,
                        # Of the list, which has one owner, every required field is ours to set.
                        model=model(
                            canary.storage_uri,
                            name="",
                            model_format=models.V1beta1ModelFormat(name=MODEL_FORMAT),
                        ),
                    ),
                )
            ],
        ),
    )
    body: Object = ApiClient().sanitize_for_serialization(service)
    return body


def read_serving(service: Object) -> Serving:
    """What the object's spec says is to serve."""
    predictor = service["spec"]["predictor"]
    canaries = service["spec"].get("canary") or []
    canary = None
    if canaries:
        entry = canaries[0]
        canary = Canary(
            str(entry["predictor"].get("name")),
            str((entry["predictor"].get("model") or {}).get("storageUri")),
            int(entry["trafficPercent"]),
            int(entry["predictor"].get("minReplicas") or 0),
        )
    return Serving(predictor.get("name"), (predictor.get("model") or {}).get("storageUri"), canary)


def apply_serving(
    cluster: Cluster,
    namespace: str,
    name: str,
    serving: Serving,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> Object:
    """Make the InferenceService serve that; what the manifests own stays as it is.

    Args:
        dry_run: only ask the server whether it would take it.

    Raises:
        Conflict: another field manager set a version or a slot; `force` takes it over.
        ClusterError: refused, or not reached.
    """
    body = desired(namespace, name, serving)
    return cluster.apply(INFERENCE_SERVICE, body, FIELD_MANAGER, force=force, dry_run=dry_run)


def get_service(cluster: Cluster, namespace: str, name: str) -> Object:
    """The InferenceService, with its runtime in place.

    Raises:
        ClusterError: there is no such service, namespace, kind or runtime, saying what to apply.
    """
    first = (
        "apply the manifests first (`kubectl apply --server-side -k manifests/overlays/<overlay>`)"
    )
    try:
        service = cluster.get(INFERENCE_SERVICE, namespace, name)
    except NotFound as error:
        if not str(error).startswith("there is no"):
            raise  # of the kind itself
        exists = cluster.namespace_exists(namespace)
        if exists is False:
            raise NotFound(f"there is no namespace '{namespace}': {first}") from error
        unsure = "" if exists else ", or no such namespace"
        raise NotFound(
            f"there is no InferenceService '{name}' in namespace '{namespace}'{unsure}: {first}, "
            "or name another one (serving.kubernetes.inference_service)"
        ) from error
    runtime = (service["spec"]["predictor"].get("model") or {}).get("runtime")
    if runtime:
        try:
            found = cluster.find(SERVING_RUNTIME, namespace, runtime)
        except Forbidden:
            return service  # it may be one of the whole cluster's: the controller will tell
        if found is None:
            raise NotFound(
                f"InferenceService '{name}' names the ServingRuntime '{runtime}', which is not in "
                f"namespace '{namespace}': {first}"
            )
    return service
