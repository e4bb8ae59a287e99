"""What several modules share because it takes seconds to start."""

import signal
from collections.abc import Iterator

import pytest
from rollout_scene import Scene
from tiny_endpoint import tiny_endpoint
from tiny_transformer import Parts, parts_of, transformer

from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.transformer import TransformerServer


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedEndpoint]:
    """A tiny endpoint for tests that only ask it."""
    with tiny_endpoint(tmp_path_factory.mktemp("served")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session", autouse=True)
def usual_signals() -> None:
    """Under nohup, or in the background of a script, signals are ignored, by children too.

    What a Ctrl-C or a closed terminal does to a command is tested here as if there were neither.
    """
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="module")
def rolled_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene: Scene | None = None
    try:
        scene = Scene(tmp_path_factory.mktemp("rollouts"))
        yield scene
    finally:
        if scene is not None:
            scene.endpoint.stop_all()


@pytest.fixture
def scene(rolled_out: Scene) -> Iterator[Scene]:
    """With STABLE alone before and after, also where a test fails."""
    yield rolled_out
    rolled_out.reset()


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with parts_of(tmp_path_factory.mktemp("transformer")) as parts:
        yield parts


@pytest.fixture(scope="module")
def server(parts: Parts) -> Iterator[TransformerServer]:
    """A transformer with a side door, on `parts`."""
    with transformer(parts) as server:
        yield server
