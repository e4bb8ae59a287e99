"""The endpoint of a state home, as the commands find it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.state import Gateway, ServingHome
from serving.process import alive
from serving.settings import load_settings


def endpoint(home: Path, console: Console | None = None, **changes: Any) -> EmbeddedEndpoint:
    """The endpoint of a state home; `changes` override what the latest rollout was told.

    A door that is open decides where the endpoint is, whoever opened it with which settings.
    """
    config = load_settings(home, **changes)
    gateway = ServingHome(home).load().gateway
    if gateway is not None and alive(gateway.process):
        config = config.model_copy(update=address_of(gateway))
    return EmbeddedEndpoint(home, config, None if console is None else lines_on(console))


@contextmanager
def locked_endpoint(home: Path, console: Console, **changes: Any) -> Iterator[EmbeddedEndpoint]:
    """`endpoint` under its lock, with the settings that whoever held it before has left."""
    door = endpoint(home, console, **changes)
    with door.locked():
        door.use(endpoint(home, console, **changes).config)
        yield door


def last_known(home: Path, console: Console | None, changes: dict[str, Any]) -> EmbeddedEndpoint:
    """The endpoint where its door is, or was before it died; `changes` where it never was."""
    gateway = ServingHome(home).load().gateway
    return endpoint(home, console, **(changes if gateway is None else address_of(gateway)))


def address_of(gateway: Gateway) -> dict[str, Any]:
    """Host and ports, as settings."""
    return gateway.model_dump(include={"host", "port", "admin_port"})


def lines_on(console: Console) -> Callable[[str], None]:
    """Prints lines as they are, whatever paths and other people's messages they hold."""
    return lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True)
