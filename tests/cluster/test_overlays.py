"""Every overlay: rendered, accepted by a strict API server, kept as sent, and applied again."""

import time
from collections.abc import Callable

import pytest
from comparison import lost
from conftest import Place
from kubectl import Kubectl, Object
from overlays import find_overlays

pytestmark = pytest.mark.parametrize("overlay", find_overlays())


def test_server_keeps_all_that_it_is_sent(
    overlay: str, place_of: Callable[[str], Place], kubectl: Kubectl
) -> None:
    place = place_of(overlay)

    assert place.objects
    for sent, stored in zip(place.objects, place.stored, strict=True):
        assert _identity(sent) == _identity(stored)
        assert lost(sent, stored) == [], _identity(sent)


def test_applying_again_changes_nothing(
    overlay: str, place_of: Callable[[str], Place], kubectl: Kubectl
) -> None:
    place = place_of(overlay)
    first = kubectl.read(place.objects)
    again = kubectl.apply(place.objects)
    # A server writes to a few of what it made just now once more: a default status, the owner of
    # a namespace without content. It is the same object still.
    assert _generations(again) == _generations(first)
    before = _versions_at_rest(kubectl, place)

    kubectl.apply(place.objects)

    assert _versions(kubectl, place) == before


def _versions_at_rest(kubectl: Kubectl, place: Place) -> dict[str, str]:
    """resourceVersions once no controller of the cluster writes to the objects any more."""
    versions = _versions(kubectl, place)
    for _ in range(20):
        time.sleep(1)
        earlier, versions = versions, _versions(kubectl, place)
        if earlier == versions:
            return versions
    raise AssertionError("something goes on writing to the objects")


def _versions(kubectl: Kubectl, place: Place) -> dict[str, str]:
    return {
        str(_identity(one)): one["metadata"]["resourceVersion"]
        for one in kubectl.read(place.objects)
    }


def _generations(objects: list[Object]) -> dict[str, int]:
    return {str(_identity(one)): one["metadata"].get("generation", 0) for one in objects}


def _identity(one: Object) -> tuple[str, str, str]:
    return one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]
