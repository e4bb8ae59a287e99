"""What the serving commands do, with the settings of the latest rollout."""

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from recommender.errors import KuberecError
from serving.embedded.endpoint import EmbeddedEndpoint, NothingToServe
from serving.settings import load_settings

CHECK_EVERY_S = 2.0


def endpoint(home: Path, console: Console | None = None, **changes: Any) -> EmbeddedEndpoint:
    """The endpoint of a state home; `changes` override what the latest rollout was told."""
    config = load_settings(home, **changes)
    say = (lambda message: console.print(message, highlight=False)) if console else None
    return EmbeddedEndpoint(home, config, say)


def serve(home: Path, console: Console, *, port: int | None, detach: bool) -> None:
    """Serve the current version; in the foreground, until Ctrl-C or SIGTERM, then stop it all.

    An endpoint that runs in the background already is only shown. In the foreground a part that
    dies is started again.
    """
    changes = {"port": port} if port else {}
    door = endpoint(home, console, **changes)
    if door.status()["serving"]:
        show_status(home, console)
        console.print("already serving in the background; end it with: kuberec stop")
        return
    try:
        door.check_ports()
        door.ensure_running()
    except BaseException:
        door.stop_all()
        raise
    show_status(home, console, **changes)
    if detach:
        return
    console.print("Ctrl-C stops it")

    def leave(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    try:
        while True:
            time.sleep(CHECK_EVERY_S)
            if not door.status()["serving"]:
                console.print("a part of the endpoint ended; starting it again")
                door.ensure_running()
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        door.stop_all()


def show_status(home: Path, console: Console, **changes: Any) -> None:
    """Print what serves, and what is kept for a way back."""
    status = endpoint(home, **changes).status()
    current, previous = status["current"], status["previous"]
    if not status["serving"]:
        console.print("nothing serves; start it with: kuberec serve")
    else:
        console.print(
            f"model version [bold]{current['version']}[/bold] serves at {status['url']} "
            f"(REST and gRPC), metrics at http://{current['http_url']} → "
            f"{current['metrics_url']}, gateway at {status['admin_url']}",
            highlight=False,
        )
    if previous:
        state = "warm" if previous["ready"] else "not running"
        console.print(f"before it: {previous['version']} ({state}): kuberec rollback")


def rollback(home: Path, console: Console) -> None:
    """Switch to the version that served before."""
    version = endpoint(home, console).rollback()
    console.print(f"model version {version} serves again; the same command leads back")


def stop(home: Path, console: Console) -> None:
    """End every process of the endpoint."""
    if not (home / "serving").is_dir():
        console.print("nothing serves")
        return
    endpoint(home).stop_all()
    console.print("stopped")


def address(home: Path) -> str:
    """host:port of the running endpoint.

    Raises:
        KuberecError: nothing serves, with the command that starts it.
    """
    door = endpoint(home)
    if door.state().current is None:
        raise NothingToServe(
            "there is no model version to serve yet; make one with: "
            "kuberec run pipelines/configs/movielens-100k.yaml"
        )
    status = door.status()
    if not status["serving"]:
        raise KuberecError("nothing serves; start the endpoint with: kuberec serve")
    return str(status["grpc_url"])
