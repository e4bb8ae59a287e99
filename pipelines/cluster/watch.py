"""A run on a host, watched: one line a step, and at its end what failed, where and why."""

import re
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn

from components.step import ERROR_PREFIX, GATE_SUFFIX
from pipelines.cluster.client import TIMEOUT_S, Door, HostError, told
from pipelines.cluster.submit import Submitted
from pipelines.cluster_settings import TASKS
from recommender.errors import KuberecError

POLL_S, PATIENCE_S = 3.0, 60.0  # patience: how long the host may be away while we wait
ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
# The templates of Kubeflow's Argo workflows whose pods run a step, by labels and retries.
_TEMPLATES = tuple(
    f"{labels}{retry}system-container-impl"
    for labels in ("metadata-0-2-", "")
    for retry in ("", "retry-")
)
_LAUNCHER = re.compile(r"[IWEF]\d{4} \d\d:")  # lines of Kubeflow's own program in a step's log
_ENDED = "Component failed to execute"  # in a step's log, not in a driver's; then the launcher's
LAST_LINES = 6


class RunFailed(KuberecError):
    """A run on a host did not succeed."""


def watch(door: Door, run: Submitted, console: Console, timeout_s: float) -> None:
    """Show a run's steps until it ends.

    Raises:
        RunFailed: it failed, was cancelled, or is not at its end after `timeout_s` (it goes on).
        HostError: the host was away for a minute, or refuses.
    """
    started = time.monotonic()
    with _Steps(console) as steps:
        for details in _polled(door, run.run_id):
            tasks = _tasks(details)
            steps.show(tasks)
            if details.state in ENDED:
                break
            if time.monotonic() - started > timeout_s:
                under_way = [name for name, task in tasks.items() if task.state == "RUNNING"]
                raise RunFailed(
                    f"run {run.run_id} has not ended after {timeout_s:g} s (now: "
                    f"{', '.join(under_way) or 'nothing runs'}); it goes on: {run.page}"
                )
    took = time.monotonic() - started
    if details.state != "SUCCEEDED":
        raise RunFailed(_explain(door, run, details, tasks))
    console.print(f"run {run.run_id} succeeded in {took:.0f} s", highlight=False)


def _polled(door: Door, run_id: str) -> Iterator[Any]:
    """The run, again and again; a host that is away for a moment is asked again."""
    away_since = None
    while True:
        try:
            with told(door, f"show run {run_id}"):
                details = door.runs.run_service_get_run(run_id, _request_timeout=TIMEOUT_S)
            away_since = None
            yield details
        except HostError as error:
            if "cannot reach" not in str(error):
                raise
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > PATIENCE_S:
                raise HostError(f"{error}\nthe run goes on without us") from error
        time.sleep(POLL_S)


def _tasks(details: Any) -> dict[str, Any]:
    """The steps' tasks by name, in the pipeline's order; those of drivers and pods are left out."""
    found = {}
    for task in (details.run_details and details.run_details.task_details) or []:
        if task.display_name in TASKS:
            found[task.display_name] = task
    return {name: found[name] for name in TASKS if name in found}


class _Steps:
    """On a terminal a line a step with a spinner; elsewhere a line when a step ends."""

    def __init__(self, console: Console) -> None:
        self._console, self._rows, self._told = console, dict[str, TaskID](), dict[str, str]()
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description:<19}"),
            TextColumn("{task.fields[state]:<10} {task.fields[took]:>8}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "_Steps":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, tasks: dict[str, Any]) -> None:
        for name, task in tasks.items():
            if name not in self._rows:
                self._rows[name] = self._bars.add_task(name, total=1, state="", took="")
            state, took = str(task.state or "PENDING").lower(), _seconds(task)
            ended = task.state in ENDED
            self._bars.update(self._rows[name], state=state, took=took, completed=int(ended))
            if self._bars.disable and ended and self._told.get(name) != state:
                self._told[name] = state
                self._console.print(
                    f"  {name:<19} {state:<10} {took:>8}", highlight=False, markup=False
                )


def _seconds(task: Any) -> str:
    if not (task.start_time and task.end_time) or task.end_time < task.start_time:
        return ""
    return f"{(task.end_time - task.start_time).total_seconds():.0f} s"


def _explain(door: Door, run: Submitted, details: Any, tasks: dict[str, Any]) -> str:
    failed = [name for name, task in tasks.items() if task.state == "FAILED"]
    if details.state == "CANCELED":
        return f"run {run.run_id} was cancelled: {run.page}"
    lines = [f"run {run.run_id} failed" + (f" in step '{failed[0]}'" if failed else "")]
    lines += _said(door, details) or _host_says(details)
    if failed and failed[0].endswith(GATE_SUFFIX):
        lines.append(
            f"the report is an output artifact of step '{failed[0].removesuffix(GATE_SUFFIX)}' on "
            "the run's page"
        )
    elif failed:
        lines.append(
            f"all that it said is the step's artifact 'executor-logs': step '{failed[0]}' of the "
            "run's page, Output artifacts"
        )
    return "\n".join([*lines, run.page])


def _host_says(details: Any) -> list[str]:
    """What Kubeflow itself knows: of a pod that never ran there is nothing else."""
    errors = [details.error] + [task.error for task in details.run_details.task_details or []]
    return [error.message for error in errors if error is not None and error.message][:3]


def _said(door: Door, details: Any) -> list[str]:
    """The error lines of the failed pods, or else their last ones, if the host has them still."""
    nodes = {
        child.pod_name
        for task in details.run_details.task_details or []
        if task.state == "FAILED"
        for child in task.child_tasks or []
        if child.pod_name
    }
    last: list[str] = []
    for node in sorted(nodes):
        for pod in (node, *_pod_names(node)):
            lines = _log(door, details.run_id, pod)
            errors = [
                line.split(f"{ERROR_PREFIX} ", 1)[-1] for line in lines if ERROR_PREFIX in line
            ]
            if errors:
                return errors
            end = next((i for i, each in enumerate(lines) if _ENDED in each), 0)
            own = [each for each in lines[:end] if each.strip() and not _LAUNCHER.match(each)]
            last = own or last
    return last[-LAST_LINES:]


def _pod_names(node: str) -> list[str]:
    """The pods that Argo may have made for a node `<workflow>-<hash>`."""
    workflow, _, number = node.rpartition("-")
    return [f"{workflow}-{template}-{number}" for template in _TEMPLATES]


def _log(door: Door, run_id: str, pod: str) -> list[str]:
    from kfp_server_api.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    headers = {"Accept": "text/plain"}
    door.api.update_params_for_auth(headers, [], ["Bearer"])
    try:
        answer = door.api.rest_client.GET(
            f"{door.host}/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log",
            headers=headers,
            _preload_content=False,
            _request_timeout=TIMEOUT_S,
        )
    except (ApiException, HTTPError, OSError):
        return []
    text = bytes(answer.data).decode("utf-8", "replace")
    if text.startswith('{"error_message"'):  # said with status 200: there is no such pod
        return []
    return text.splitlines()
