"""What the serving commands do, with the settings of the latest rollout."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from pipelines.champion import mark_champion
from pipelines.endpoint import endpoint, last_known, lines_on, locked_endpoint
from pipelines.keeper import is_keeper, start_keeper
from pipelines.signals import signals_as_interrupt
from recommender.errors import KuberecError
from serving.embedded.endpoint import EmbeddedEndpoint, NothingToServe
from serving.embedded.state import ServingHome
from serving.embedded.supervisor import Supervisor
from serving.process import ProcessRef, this_process, wait_until_gone
from serving.rollout.embedded.files import RolloutFiles

# A foreground command may be starting a part again when it is told to leave.
_LEAVES_WITHIN_S = 10.0


def serve(home: Path, console: Console, *, port: int | None, detach: bool) -> None:
    """Serve the current version; in the foreground, until Ctrl-C, SIGTERM or `kuberec stop`.

    An endpoint that runs already is only shown. A part that dies is started again: by this process
    in the foreground, which stops everything in the end, else by a keeper in the background.

    Raises:
        KuberecError: the endpoint is open on another port than `port`, or cannot start.
    """
    with signals_as_interrupt():
        door = endpoint(home, console, **_changes(port))
        _require_port(door, port)
        if door.status()["serving"]:
            start_keeper(home)
            show_status(home, console)
            console.print("already serving; end it with: kuberec stop")
            return
        if detach:
            _start(home, console, port, None)
            start_keeper(home)
            show_status(home, console)
            return
        me = this_process()
        try:
            _start(home, console, port, me)
            show_status(home, console)
            console.print("Ctrl-C stops it")
            _keep_running(home, console, me, port)
        except KeyboardInterrupt:
            console.print("stopping")
        finally:
            _stop_own(door, me)


def _changes(port: int | None) -> dict[str, Any]:
    return {} if port is None else {"port": port}


def _require_port(door: EmbeddedEndpoint, port: int | None) -> None:
    if port is not None and door.config.port != port:
        raise KuberecError(
            f"the endpoint is open at {door.url} already; to move it: "
            f"kuberec stop && kuberec serve --port {port}"
        )


def _start(home: Path, console: Console, port: int | None, foreground: ProcessRef | None) -> None:
    """Start what is not running; if that fails, stop what was started, and nothing else."""
    with locked_endpoint(home, console, **_changes(port)) as door:
        _require_port(door, port)  # a rollout that had the lock may have opened it elsewhere
        before = door.state()
        door.check_ports()
        try:
            door.ensure_running()
            door.keep_for(foreground)
        except BaseException:
            door.stop_since(before)
            raise


def _keep_running(home: Path, console: Console, me: ProcessRef, port: int | None) -> None:
    """Start again what dies, until another command stops the endpoint or takes it over."""
    find = partial(last_known, home, console, _changes(port))
    Supervisor(find, me, lines_on(console)).run()
    console.print("stopped, or taken over, by another command")


def _stop_own(door: EmbeddedEndpoint, me: ProcessRef) -> None:
    """Stop the endpoint, unless it is somebody else's by now."""
    if door.state().foreground == me:
        with door.locked():
            if door.state().foreground == me:
                door.stop_all()


def show_status(home: Path, console: Console) -> None:
    """Print what serves, its parts and addresses, who keeps it running, and the way back."""
    status = endpoint(home).status()

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    if status["serving"]:
        shares = status["versions"]
        names = ", ".join(
            f"[bold]{each['version']}[/bold]"
            + (f" ({each['percent']} %)" if len(shares) > 1 else "")
            for each in shares
        )
        say(f"model version {names} serves at {status['url']} (REST and gRPC)")
    else:
        say("nothing serves; start it with: kuberec serve")
    keeper = status["kept_by"]
    if keeper is not None:
        what = "in the background" if is_keeper(keeper) else "kuberec serve in the foreground"
        say(f"  kept running by pid {keeper}, {what}")
    elif status["serving"]:
        say("  nobody starts its parts again: kuberec serve")
    for each in status["versions"]:
        _show_parts(each, say)
    if status["gateway_pid"] is not None:
        say(
            f"  Envoy: pid {status['gateway_pid']}, admin {status['admin_url']}, "
            f"stats {status['stats_url']}"
        )
    if status["versions"]:
        say(f"  logs: {escape(status['logs'])} (requests: access.log)")
    previous = status["previous"]
    if previous:
        state = "warm" if previous["ready"] else "not running"
        say(f"before it: {previous['version']} ({state}): kuberec rollback")
    _show_rollout(home, say)


def _show_rollout(home: Path, say: Callable[[str], None]) -> None:
    """A line about a rollout that is not over."""
    files = RolloutFiles(ServingHome(home).root)
    try:
        rollout = files.load()
    except KuberecError as error:
        say(escape(str(error)))
        return
    if rollout is not None and rollout.unfinished:
        holder = files.holder() or "nobody is at it"
        state = "held" if rollout.status == "held" else f"under way ({holder})"
        say(f"rollout of {rollout.canary}, {rollout.percent} %: {state}: kuberec rollout status")


def _show_parts(version: dict[str, Any], say: Callable[[str], None]) -> None:
    for name, part in version["parts"].items():
        state = "ready" if part["ready"] else "not ready"
        process = "ended" if part["pid"] is None else f"pid {part['pid']}, {state}"
        title = "Triton" if name == "triton" else name
        say(f"  {title} of {version['version']}: {process}, metrics {part['metrics_url']}")


def rollback(home: Path, console: Console) -> None:
    """Switch to the version that served before, which is the champion again."""
    with locked_endpoint(home, console) as door:
        version = door.rollback()
    console.print(f"model version {version} serves again; the same command leads back")
    mark_champion(version, home, console)


def stop(home: Path, console: Console) -> None:
    """End every process of the endpoint, and a `kuberec serve` in the foreground."""
    if not (home / "serving").is_dir():
        console.print("nothing serves")
        return
    door = EmbeddedEndpoint(home)  # whose settings do not matter here, and may be unreadable
    foreground = door.state().foreground
    door.stop_all()
    if foreground is not None:
        wait_until_gone(foreground, _LEAVES_WITHIN_S)
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
