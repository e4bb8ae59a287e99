"""A rollout as Markdown: for Kubeflow's page of a run, for a chat, for a ticket."""

from collections.abc import Mapping, Sequence
from typing import Any

from reporting.markdown import paragraph, plain, table
from reporting.rollout_text import (
    STATUS,
    STEP,
    StepRow,
    clock,
    date,
    ms,
    number,
    seconds_between,
    share,
    step_rows,
    time,
)
from serving.rollout.outcome import headline
from serving.rollout.record import Rollout

_STEPS = (
    *("step", "share", "for", "verdict", "requests", "errors", "p50, ms", "p99, ms"),
    *("overlap", "RBO", "own requests", "reason"),
)


def markdown(rollout: Rollout) -> str:
    """All steps, every check of each, and what happened when. Pairs are stable's / the canary's."""
    took = time(seconds_between(rollout.began, rollout.ended))
    rows = step_rows(rollout)
    parts = [
        f"# Rollout {rollout.id}: {STATUS[rollout.status]}",
        paragraph(headline(rollout)),
        f"Began {date(rollout.began)} UTC, took {took}; target {rollout.target}. "
        "Numbers in pairs are stable's / the canary's, over the step.",
    ]
    if rollout.prepared:
        parts += ["## Before the first step", _prepared(rollout.prepared)]
    if rows:
        parts += ["## Steps", table(_STEPS, [_step(row) for row in rows])]
    else:
        parts.append("No step began: the canary never got a share of the requests.")
    for row in rows:
        if row.checks:
            parts += [
                f"### {row.percent} %: {STEP[row.verdict]}",
                paragraph(row.reason),
                _checks(row),
            ]
    if rollout.notes:
        lines = (
            f"- {clock(note.at)} {'**' + note.reason + '**' if note.warning else note.reason}: "
            f"{plain(note.message)}"
            for note in rollout.notes
        )
        parts += ["## What happened", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def markdown_without(title: str, sentence: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Where there was no canary: why, and the checks that there were."""
    parts = [f"# {title}", paragraph(sentence)]
    return "\n\n".join([*parts, *([_prepared(rows)] if rows else [])]) + "\n"


def _prepared(rows: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ("check", "value", "limit", ""),
        [
            (row["name"], number(row["value"]), row["limit"], _passed(bool(row["passed"])))
            for row in rows
        ],
    )


def _passed(passed: bool) -> str:
    return "pass" if passed else "**fail**"


def _step(row: StepRow) -> Sequence[str]:
    def both(pair: tuple[float | None, float | None], shown: Any) -> str:
        return " / ".join(shown(each) for each in pair)

    return (
        str(row.number),
        f"{row.percent} %",
        time(row.seconds),
        STEP[row.verdict],
        both(row.requests, number),
        both(row.error_rate, share),
        both(row.p50_ms, ms),
        both(row.p99_ms, ms),
        number(row.overlap),
        number(row.rbo),
        number(row.own_requests),
        row.reason.partition("\n")[0],
    )


def _checks(row: StepRow) -> str:
    return table(
        ("check", "stable", "canary", "limit", "outcome", "from"),
        [
            (
                check.name,
                number(check.stable),
                number(check.canary),
                check.limit,
                f"**{check.outcome}**" if check.outcome == "fail" else check.outcome,
                check.detail,
            )
            for check in row.checks
        ],
    )
