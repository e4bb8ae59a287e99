"""The page of a rollout, which carries everything it shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from reporting import rollout_text
from reporting.page import environment
from reporting.rollout_plots import timeline
from serving.rollout.outcome import headline
from serving.rollout.record import Rollout


def page(rollout: Rollout) -> str:
    """Steps, plots, every check of each verdict, and what happened when, as HTML text."""
    rows = rollout_text.step_rows(rollout)
    return (
        environment()
        .get_template("rollout.html")
        .render(
            rollout=rollout,
            status=rollout_text.STATUS[rollout.status],
            headline=headline(rollout),
            took=rollout_text.seconds_between(rollout.began, rollout.ended),
            rows=rows,
            begun=len({row.number for row in rows}),
            prepared=rollout.prepared,
            svg=timeline(rollout),
        )
    )


def page_without(title: str, sentence: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Where there was no canary: why, and the checks that there were.

    Args:
        rows: {name, value, limit, passed}.
    """
    template = environment().get_template("no_rollout.html")
    return template.render(title=title, sentence=sentence, prepared=rows)
