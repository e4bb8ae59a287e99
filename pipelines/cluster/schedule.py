"""Recurring runs: the host's schedule made what the config says; one for each config, by name."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipelines.cluster.client import TIMEOUT_S, Door, told
from pipelines.cluster.submit import Version, find_experiment, named, publish, what_runs
from pipelines.cluster_settings import ScheduleConfig
from pipelines.config import RunConfig
from recommender.errors import KuberecError

PAGE_SIZE = 100


def schedule(door: Door, config: RunConfig, action: str, folder: Path, console: Console) -> None:
    """Do `action` ("apply", "enable", "disable", "delete", "list") on the config's schedule.

    Raises:
        KuberecError: there is no such schedule, or none in the config.
        HostError: the host cannot be reached or refuses.
    """
    if action == "list":
        _show(door, console)
        return
    if action == "apply":
        _apply(door, config, folder, console)
        return
    found = _find(door, config.name)
    if not found and action != "delete":
        raise KuberecError(
            f"{door.host} has no schedule '{config.name}': make it with 'kuberec schedule CONFIG "
            "apply'"
        )
    calls = {
        "enable": door.recurring.recurring_run_service_enable_recurring_run,
        "disable": door.recurring.recurring_run_service_disable_recurring_run,
        "delete": door.recurring.recurring_run_service_delete_recurring_run,
    }
    for each in found:
        with told(door, f"{action} schedule '{config.name}'"):
            calls[action](each.recurring_run_id, _request_timeout=TIMEOUT_S)
    done = f"{action}d" if found else "not there"
    console.print(f"schedule {config.name}: {done}", highlight=False)


def _apply(door: Door, config: RunConfig, folder: Path, console: Console) -> None:
    """Kubeflow cannot change a schedule: a new one takes the place of one that differs."""
    wanted = config.cluster.schedule
    if wanted is None:
        raise KuberecError(
            f"config '{config.name}' has no cluster.schedule: give it a cron ('0 0 3 * * *': "
            "each day at three, UTC) or an interval_s"
        )
    version = publish(door, config, folder, console)
    experiment_id = find_experiment(door, config.cluster.experiment)
    body = _body(config, wanted, version, experiment_id)
    found = _find(door, config.name)
    same = [each for each in found if _facts(each) == _facts(body)]
    if not same:
        with told(door, f"create schedule '{config.name}'"):
            door.recurring.recurring_run_service_create_recurring_run(
                recurring_run=body, _request_timeout=TIMEOUT_S
            )
    for each in found:  # after the new one stands, so that a refusal leaves the old one
        if each is not next(iter(same), None):
            with told(door, f"delete the earlier schedule '{config.name}'"):
                door.recurring.recurring_run_service_delete_recurring_run(
                    each.recurring_run_id, _request_timeout=TIMEOUT_S
                )
    said = "unchanged" if same else "updated" if found else "created"
    state = "" if wanted.enabled else ", disabled"
    console.print(f"schedule {config.name}: {said}, {_when(body.trigger)}{state}", highlight=False)


def _body(config: RunConfig, wanted: ScheduleConfig, version: Version, experiment_id: str) -> Any:
    import kfp_server_api as server

    if wanted.cron:
        trigger = server.V2beta1Trigger(cron_schedule=server.V2beta1CronSchedule(cron=wanted.cron))
    else:
        trigger = server.V2beta1Trigger(
            periodic_schedule=server.V2beta1PeriodicSchedule(interval_second=str(wanted.interval_s))
        )
    mode = server.RecurringRunMode
    return server.V2beta1RecurringRun(
        display_name=config.name,
        description=f"kuberec schedule, version {version.name}",
        experiment_id=experiment_id,
        **what_runs(config, version),
        max_concurrency=str(wanted.max_concurrency),
        trigger=trigger,
        mode=mode.ENABLE if wanted.enabled else mode.DISABLE,
        no_catchup=not wanted.catchup,
    )


def _facts(each: Any) -> dict[str, Any]:
    """What makes two schedules the same."""
    reference = each.pipeline_version_reference
    return {
        "version": reference and reference.pipeline_version_id,
        "experiment": each.experiment_id,
        "when": _when(each.trigger),
        "account": each.service_account,
        "concurrency": int(each.max_concurrency or 1),
        "enabled": each.mode == "ENABLE",
        "no_catchup": bool(each.no_catchup),
        "root": (each.runtime_config and each.runtime_config.pipeline_root) or None,
    }


def _when(trigger: Any) -> str:
    if trigger and trigger.cron_schedule:
        return f"cron '{trigger.cron_schedule.cron}'"
    if trigger and trigger.periodic_schedule:
        return f"every {trigger.periodic_schedule.interval_second} s"
    return "no trigger"


def _find(door: Door, name: str) -> list[Any]:
    return [each for each in _all(door, filter=named(name)) if each.display_name == name]


def _all(door: Door, **query: Any) -> list[Any]:
    found: list[Any] = []
    token = ""
    while True:
        with told(door, "list its schedules"):
            page = door.recurring.recurring_run_service_list_recurring_runs(
                page_token=token,
                page_size=PAGE_SIZE,
                _request_timeout=TIMEOUT_S,
                **query,
                **door.where,
            )
        found += page.recurring_runs or []
        token = page.next_page_token
        if not token:
            return found


def _show(door: Door, console: Console) -> None:
    table = Table(box=SIMPLE_HEAD)
    for title in ("schedule", "when", "state", "at once", "made"):
        table.add_column(title, overflow="fold")
    for each in _all(door):
        state = "enabled" if each.mode == "ENABLE" else "disabled"
        made = f"{each.created_at:%Y-%m-%d %H:%M}" if each.created_at else ""
        table.add_row(
            each.display_name, _when(each.trigger), state, str(each.max_concurrency), made
        )
    if table.row_count:
        console.print(table)
    else:
        console.print(f"no schedules on {door.host}", highlight=False)
