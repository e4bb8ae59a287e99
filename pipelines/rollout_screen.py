"""What `kuberec rollout` prints for a person."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.screen import command
from recommender.errors import KuberecError
from reporting import rollout_text as text
from serving.rollout.outcome import headline
from serving.rollout.record import Rollout
from serving.rollout.target import Observed, Target

STYLE = {"pass": "green", "fail": "red", "unsure": "yellow"}
STATUS_STYLE = {"promoted": "green", "rolled_back": "red", "held": "yellow", "under_way": "cyan"}
_REFRESH_S = 1.0


def status_of(target: Target) -> dict[str, Any]:
    """What serves, the latest rollout, who is at it, and what an operator asked of that."""
    rollout = target.load()
    return {
        "serves": target.observe()._asdict(),
        "holder": target.holder(),
        "requested": target.requested(),
        "next": None if rollout is None else what_next(rollout, target.holder()),
        "rollout": None if rollout is None else rollout.model_dump(mode="json"),
    }


def what_next(rollout: Rollout, holder: str | None) -> str:
    """What happens to it now if nobody does anything, and what an operator can do."""
    decide = f"`{command()} rollout promote` or `abort`"
    if rollout.status == "held":
        return f"it waits: {decide}, or start the same run again, which goes on watching"
    if rollout.status != "under_way":
        return "nothing: it is over"
    if holder is None:
        return (
            "nobody is at it, its process was killed: start the same run again, which goes on, "
            f"or {decide}"
        )
    held_to = text.settings(rollout)
    if rollout.phase == "step" and held_to and rollout.step < len(held_to.steps):
        bake = held_to.steps[rollout.step].bake_s
        last = rollout.step + 1 == len(held_to.steps)
        then = "it is promoted" if last else f"{held_to.steps[rollout.step + 1].percent} %"
        return (
            f"once this step is {text.time(bake)} old and judged good: {then}; it is held if that "
            f"is not known {text.time(held_to.max_wait_s)} later; or {decide}"
        )
    return {"preparing": "the first step, once the canary is ready and answers as it should"}.get(
        rollout.phase, text.where(rollout)
    )


def show_status(found: Mapping[str, Any], console: Console) -> None:
    console.print(_status(found))


def watch_status(target: Target, console: Console, refresh_s: float = _REFRESH_S) -> None:
    """The status, kept up to date, until no process is at the rollout."""
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        for found in _looks(target, refresh_s):
            live.update(_status(found), refresh=True)


def watch_json(target: Target, refresh_s: float = _REFRESH_S) -> None:
    """The same for programs: the status of each look as one line of JSON."""
    for found in _looks(target, refresh_s):
        print(json.dumps(found, ensure_ascii=False), flush=True)


def _looks(target: Target, refresh_s: float) -> Iterator[dict[str, Any]]:
    """The status, and again, until no process is at the rollout."""
    while True:
        found = status_of(target)
        yield found
        rollout = found["rollout"]
        if rollout is None or rollout["status"] != "under_way" or found["holder"] is None:
            return
        time.sleep(refresh_s)


def _status(found: Mapping[str, Any]) -> RenderableType:
    seen = Observed(**found["serves"])
    grid = _grid()
    grid.add_row("serves", Text(_serves(seen)))
    if seen.trouble:
        grid.add_row("trouble", Text(seen.trouble, "red"))
    if found["rollout"] is None:
        grid.add_row("rollout", "there was none yet")
        return grid
    rollout = Rollout.model_validate(found["rollout"])
    told = f"{rollout.id}: {text.STATUS[rollout.status]}"
    grid.add_row("rollout", Text(told, STATUS_STYLE.get(rollout.status, "")))
    if rollout.status == "under_way":
        grid.add_row("", Text(f"{rollout.canary} beside {rollout.stable}, {text.where(rollout)}"))
        grid.add_row("process", Text(found["holder"] or "none"))
        if found["requested"]:
            grid.add_row("asked", Text(f"{found['requested']}, which is not done yet"))
    else:
        grid.add_row("", Text(headline(rollout).partition("\n")[0]))
    parts: list[RenderableType] = [grid]
    if rollout.steps and rollout.unfinished:
        step = rollout.steps[-1]
        since = (datetime.now(UTC) - datetime.fromisoformat(step.began)).total_seconds()
        share = f"{step.percent} %, for {text.time(since)}"
        grid.add_row("step", Text(f"{share}; {len(step.looks)} looks"))
        if step.verdict:
            grid.add_row("verdict", Text(f"{step.verdict.outcome}: {step.verdict.reason}"))
        if step.verdict and step.verdict.checks:
            parts.append(checks_table(step.verdict.checks))
    if rollout.unfinished:
        last = _grid()
        last.add_row("next", Text(found["next"]))
        parts.append(last)
    return Group(*parts)


def _grid() -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="bold", no_wrap=True, width=7)
    grid.add_column()
    return grid


def _serves(seen: Observed) -> str:
    if seen.stable is None:
        return "nothing"
    ready = "" if seen.stable_ready else ", not ready"
    if seen.canary is None:
        return f"{seen.stable} alone{ready}"
    moving = "" if seen.wanted_percent == seen.percent else f", on its way to {seen.wanted_percent}"
    canary = "" if seen.canary_ready else ", not ready"
    return (
        f"{seen.stable} with {100 - seen.percent} % of the requests{ready}; canary {seen.canary} "
        f"with {seen.percent} %{moving}{canary}"
    )


def checks_table(checks: Sequence[Any]) -> Table:
    """Every limit of a verdict, with both versions' numbers."""
    table = Table(box=SIMPLE_HEAD)
    for name in ("check", "stable", "canary", "limit", "", "from"):
        table.add_column(name, justify="right" if name in ("stable", "canary") else "left")
    for check in checks:
        table.add_row(
            Text(check.name),
            text.number(check.stable),
            text.number(check.canary),
            Text(check.limit),
            Text(check.outcome, STYLE[check.outcome]),
            Text(check.detail, "dim"),
        )
    return table


def show_history(known: Sequence[Rollout], console: Console) -> None:
    """A table of the rollouts, newest first."""
    if not known:
        console.print("there was no rollout yet")
        return
    table = Table(box=SIMPLE_HEAD)
    for name in ("id", "end", "took"):
        table.add_column(name, no_wrap=True)
    table.add_column("what")
    for each in known:
        what = f"{each.canary} over {each.stable}, began {text.date(each.began)} UTC"
        reason = each.reason.partition("\n")[0]
        table.add_row(
            Text(each.id),
            Text(_ended(each), STATUS_STYLE.get(each.status, "")),
            text.time(text.seconds_between(each.began, each.ended)),
            Text(f"{what}: {reason}" if reason else what),
        )
    console.print(table)


def _ended(rollout: Rollout) -> str:
    """In a word or two, for a column."""
    return text.STATUS[rollout.status].removesuffix(" by an operator")


def show_one(rollout: Rollout, console: Console) -> None:
    """All of one: its steps, every check of each, and what happened when."""
    console.print(Text(headline(rollout)))
    for row in text.step_rows(rollout):
        said = f"\n{row.percent} %, {text.time(row.seconds)}: {text.STEP[row.verdict]}"
        console.print(Text(said, "bold"))
        console.print(Text(row.reason))
        if row.checks:
            console.print(checks_table(row.checks))
    console.print()
    for note in rollout.notes:
        line = Text(f"{text.date(note.at)}  ")
        line.append(note.reason, "red" if note.warning else "bold").append(f"  {note.message}")
        console.print(line)


def pick(known: Sequence[Rollout], wanted: str | None) -> Rollout:
    """The rollout whose id begins with `wanted`; None: the latest.

    Raises:
        KuberecError: there is none, or there are several.
    """
    found = [each for each in known if each.id.startswith(wanted or "")]
    exact = [each for each in found if each.id == wanted]
    if wanted is None and found:
        return found[0]
    if len(exact or found) == 1:
        return (exact or found)[0]
    ids = ", ".join(each.id for each in (found or known)) or "there was none yet"
    problem = "begins the ids of several rollouts" if found else "is the id of no rollout"
    raise KuberecError(f"'{wanted or 'latest'}' {problem}: {ids}")
