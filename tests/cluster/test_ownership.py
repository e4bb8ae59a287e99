"""Who owns what of the InferenceService: manifests its shape, rollouts what it serves."""

from collections.abc import Callable

import pytest
from conftest import Place
from kubectl import Kubectl, KubectlFailed, Object
from overlays import find

OVERLAY = "overlays/kind"


@pytest.fixture
def place(place_of: Callable[[str], Place]) -> Place:
    return place_of(OVERLAY)


def _rollout(place: Place, slot: str, version: str) -> Object:
    """What a rollout applies, and nothing else."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "recommend", "namespace": place.namespace("kuberec")},
        "spec": {
            "predictor": {
                "name": slot,
                "model": {"storageUri": f"pvc://kuberec-models/versions/{version}"},
            }
        },
    }


def _predictor(kubectl: Kubectl, place: Place) -> Object:
    stored = kubectl.get("inferenceservice", "recommend", place.namespace("kuberec"))
    predictor: Object = stored["spec"]["predictor"]
    return predictor


def test_before_the_first_rollout_nothing_is_named(place: Place) -> None:
    predictor = find(place.objects, "InferenceService")["spec"]["predictor"]

    assert "name" not in predictor
    assert "storageUri" not in predictor["model"]


def test_manifests_keep_what_a_rollout_set(place: Place, kubectl: Kubectl) -> None:
    kubectl.apply([_rollout(place, "blue", "v1")], "kuberec-rollout")

    kubectl.apply(place.objects)

    predictor = _predictor(kubectl, place)
    assert predictor["name"] == "blue"
    assert predictor["model"]["storageUri"] == "pvc://kuberec-models/versions/v1"
    assert predictor["model"]["runtime"] == "kuberec-triton"


def test_a_rollout_keeps_what_manifests_set(place: Place, kubectl: Kubectl) -> None:
    kubectl.apply([_rollout(place, "blue", "v1")], "kuberec-rollout")
    before = _predictor(kubectl, place)

    kubectl.apply([_rollout(place, "green", "v2")], "kuberec-rollout")

    after = _predictor(kubectl, place)
    assert after.pop("name") == "green"
    assert after["model"].pop("storageUri").endswith("/v2")
    del before["name"], before["model"]["storageUri"]
    assert after == before


def test_manifests_that_name_a_version_meet_a_conflict(place: Place, kubectl: Kubectl) -> None:
    kubectl.apply([_rollout(place, "blue", "v1")], "kuberec-rollout")

    with pytest.raises(KubectlFailed, match=r"(?s)kuberec-rollout.*storageUri"):
        kubectl.apply([_rollout(place, "blue", "v9")], "kubectl")
