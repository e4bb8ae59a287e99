"""The lane against a real API server: `KUBECONFIG=… make test-cluster`, or `pytest tests/cluster`.

It needs no controllers and no nodes, makes namespaces of its own, and takes away all that it made.
"""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from data_plane import DataPlane, data_plane
from kubectl import Kubectl, KubectlFailed, Object
from overlays import NAMESPACES, move, render
from prerequisites import bring_definitions, find_problem

_LANE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    named = (Path(arg.partition("::")[0]).resolve() for arg in config.args)
    inside = any(path == _LANE or _LANE in path.parents for path in named)
    return None if inside else True


@pytest.fixture(scope="session", autouse=True)
def kubectl() -> Iterator[Kubectl]:
    """A cluster with everything that the manifests need; else the lane ends, saying what lacks."""
    kubectl = Kubectl()
    problem = find_problem(kubectl)
    if problem:
        pytest.exit(f"tests/cluster: {problem}", returncode=2)
    brought = bring_definitions(kubectl)
    yield kubectl
    for name in brought:
        kubectl.run("delete", "crd", name, "--wait=false")


@pytest.fixture(scope="session")
def plane(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataPlane]:
    """What stands for pods, gateway and Prometheus, when it is first asked for."""
    with data_plane(tmp_path_factory.mktemp("plane")) as made:
        yield made


class Place:
    """Namespaces of one overlay's own, in which it lies applied.

    Attributes:
        objects: what was sent.
        stored: what came back, in the same order.
    """

    def __init__(self, kubectl: Kubectl, overlay: str, prefix: str, rendered: list[Object]) -> None:
        self.overlay, self.prefix = overlay, prefix
        self.objects = move(rendered, prefix)
        made = {one["metadata"]["name"] for one in self.objects if one["kind"] == "Namespace"}
        for name in NAMESPACES:
            if self.namespace(name) not in made:
                kubectl.run("create", "namespace", self.namespace(name))
        self.stored = kubectl.apply(self.objects)

    def namespace(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def remove(self, kubectl: Kubectl) -> None:
        """Takes away all of it, without waiting for controllers that may not be there."""
        for one in self.objects:
            if "namespace" not in one["metadata"] and one["kind"] != "Namespace":
                kind = f"{one['kind']}.{one['apiVersion'].rpartition('/')[0]}".rstrip(".")
                _try(kubectl, "delete", kind, one["metadata"]["name"], "--wait=false")
        names = [self.namespace(name) for name in NAMESPACES]
        _try(kubectl, "delete", "namespace", *names, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="session")
def place_of(
    kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Place]]:
    """An overlay's Place, applied when it is first asked for."""
    workdir = tmp_path_factory.mktemp("rendered")
    run = uuid.uuid4().hex[:6]
    places: dict[str, Place] = {}

    def get(overlay: str) -> Place:
        if overlay not in places:
            prefix = f"test-{run}-{overlay.rpartition('/')[2]}"
            rendered = render(kubectl, overlay, workdir)
            places[overlay] = Place(kubectl, overlay, prefix, rendered)
        return places[overlay]

    yield get
    for place in places.values():
        place.remove(kubectl)


def _try(kubectl: Kubectl, *arguments: str) -> None:
    try:
        kubectl.run(*arguments)
    except KubectlFailed as error:
        print(error)
