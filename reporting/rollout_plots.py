"""A rollout over time: the canary's share, and what both versions' numbers were at each look."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reporting.plots import ACCENT, MODEL, OTHER, STYLE, svg
from reporting.rollout_text import LOOK, STEP, error_rate, outcome_of, settings
from serving.rollout.record import Look, Rollout, StepRecord
from serving.rollout.settings import RolloutConfig

GOOD, BAD = "#18794e", "#c62a2f"
LOOKS = {"promote": GOOD, "hold": ACCENT, "roll_back": BAD, "inconclusive": OTHER}
BANDS = {"good": GOOD, "bad": BAD, "held": ACCENT, "left": ACCENT, "interrupted": OTHER, "": OTHER}
LIMIT = "#5b6780"


def timeline(rollout: Rollout) -> str:
    """Five plots above each other over one time axis; bands are the steps, coloured by verdict.

    What a look could not read is a gap. Numbers of a look count from the beginning of its step.
    "" of a rollout of which no step began.
    """
    if not rollout.steps:
        return ""
    clock = _Clock(rollout)
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 10), layout="constrained")
        share, p50, p99, errors, ranking = figure.subplots(
            5, 1, sharex=True, height_ratios=[1.1, 1, 1, 1, 1]
        )
        for axes in (share, p50, p99, errors, ranking):
            _bands(axes, rollout, clock)
            axes.set_xlim(0, clock.end)
        _shares(share, rollout, clock)
        _latency(p50, rollout, clock, "p50")
        _latency(p99, rollout, clock, "p99")
        _errors(errors, rollout, clock)
        _ranking(ranking, rollout, clock)
        ranking.set_xlabel(f"{clock.unit} since {rollout.began[:19].replace('T', ' ')} UTC")
        return svg(figure)


class _Clock:
    """Times of a rollout as numbers on its axis: seconds, or minutes of a long one."""

    def __init__(self, rollout: Rollout) -> None:
        self._began = datetime.fromisoformat(rollout.began)
        self._scale, self.unit = 1.0, "seconds"
        moments = [
            *(look.at for step in rollout.steps for look in step.looks),
            *(each for step in rollout.steps for each in (step.began, step.ended) if each),
            *(note.at for note in rollout.notes),
            *([rollout.ended] if rollout.ended else []),
        ]
        self.end = max((self(moment) for moment in moments), default=0.0) or 1.0
        if self.end > 600:
            self._scale, self.unit, self.end = 60.0, "minutes", self.end / 60

    def __call__(self, moment: str) -> float:
        return (datetime.fromisoformat(moment) - self._began).total_seconds() / self._scale


def _spans(rollout: Rollout, clock: _Clock) -> Iterator[tuple[StepRecord, str, float, float]]:
    """Every step with what became of it, its begin and its end on the axis."""
    followers = [*(clock(step.began) for step in rollout.steps[1:]), clock.end]
    for place, (step, follower) in enumerate(zip(rollout.steps, followers, strict=True)):
        end = clock(step.ended) if step.ended else follower
        yield step, outcome_of(rollout, place)[0], clock(step.began), end


def _bands(axes: Axes, rollout: Rollout, clock: _Clock) -> None:
    for _, ended, begin, end in _spans(rollout, clock):
        axes.axvspan(begin, end, color=BANDS[ended], alpha=0.09, lw=0)


def _shares(axes: Axes, rollout: Rollout, clock: _Clock) -> None:
    """The share as the gateway had it at each look, with the looks' outcomes as dots."""
    points = [(0.0, 0)]
    for step in rollout.steps:
        points.append((clock(step.began), step.percent))
        points += [(clock(look.at), look.canary_percent) for look in step.looks]
    if rollout.status == "rolled_back" and rollout.steps[-1].ended:
        points.append((clock(rollout.steps[-1].ended), 0))
    if rollout.ended:
        final = 100 if rollout.status == "promoted" else points[-1][1]
        points.append((clock(rollout.ended), final))
    axes.plot(*zip(*points, strict=True), color=MODEL, drawstyle="steps-post", lw=1.6)
    for outcome, name in LOOK.items():
        looks = [each for step in rollout.steps for each in step.looks if each.outcome == outcome]
        if looks:
            axes.scatter(
                [clock(look.at) for look in looks],
                [look.canary_percent for look in looks],
                color=LOOKS[outcome],
                s=16,
                zorder=3,
                label=f"look: {name}",
            )
    for note in rollout.notes:
        if note.warning:
            axes.axvline(clock(note.at), color=BAD, lw=0.8, ls=":")
    for step, ended, begin, end in _spans(rollout, clock):
        if end - begin > 0.06 * clock.end:  # else there is no room for words
            text = f"{step.percent} %\n{STEP[ended]}"
            axes.text((begin + end) / 2, 112, text, ha="center", fontsize=8)
    axes.set_ylim(-4, 142)
    axes.set_yticks([0, 25, 50, 75, 100])
    _finish(axes, "share of the canary, %")


def _latency(axes: Axes, rollout: Rollout, clock: _Clock, name: str) -> None:
    key = f"{name}_ms"

    def limit(look: Look, limits: RolloutConfig) -> float | None:
        stable = look.stable.get(key)
        if stable is None:
            return None
        return stable * limits.max_latency_ratio + limits.latency_slack_ms

    _beside_stable(axes, rollout, clock, lambda numbers: numbers.get(key), limit)
    _finish(axes, f"latency, {name}, ms")


def _errors(axes: Axes, rollout: Rollout, clock: _Clock) -> None:
    def percent(numbers: Mapping[str, Any]) -> float | None:
        rate = error_rate(numbers)
        return None if rate is None else 100 * rate

    def limit(look: Look, limits: RolloutConfig) -> float | None:
        stable = percent(look.stable)
        return None if stable is None else stable + 100 * limits.max_error_increase

    _beside_stable(axes, rollout, clock, percent, limit)
    _finish(axes, "failed requests, %")


def _beside_stable(
    axes: Axes,
    rollout: Rollout,
    clock: _Clock,
    value: Callable[[Mapping[str, Any]], float | None],
    limit: Callable[[Look, RolloutConfig], float | None],
) -> None:
    """The number of both versions, and the limit that follows from stable's."""
    steps, limits = rollout.steps, settings(rollout)
    _line(axes, steps, clock, lambda look: value(look.stable), "stable", OTHER)
    _line(axes, steps, clock, lambda look: value(look.canary), "canary", MODEL)
    if limits is not None and axes.lines:
        _line(axes, steps, clock, lambda look: limit(look, limits), "limit", LIMIT, dotted=True)
    axes.set_ylim(bottom=0)


def _ranking(axes: Axes, rollout: Rollout, clock: _Clock) -> None:
    steps, limits = rollout.steps, settings(rollout)
    _line(axes, steps, clock, lambda look: look.ranking.get("overlap"), "top-K overlap", MODEL)
    _line(axes, steps, clock, lambda look: look.ranking.get("rbo"), "RBO", GOOD)
    if limits is not None and axes.lines:
        for name, colour, at in (
            ("overlap", MODEL, limits.ranking.min_overlap),
            ("RBO", GOOD, limits.ranking.min_rbo),
        ):
            axes.axhline(at, color=colour, ls=":", lw=1, label=f"limit of {name}, {at:g}")
    axes.set_ylim(0, 1.05)
    _finish(axes, "ranking, beside stable's")


def _line(
    axes: Axes,
    steps: Sequence[StepRecord],
    clock: _Clock,
    value: Callable[[Look], float | None],
    name: str,
    colour: str,
    *,
    dotted: bool = False,
) -> None:
    """One line for each step, since every step counts anew; broken where a look knows nothing."""
    style: Any = {"ls": ":"} if dotted else {"marker": ".", "ms": 4}
    for step in steps:
        found = [(clock(look.at), value(look)) for look in step.looks]
        if all(each is None for _, each in found):
            continue
        values = [float("nan") if each is None else each for _, each in found]
        axes.plot([at for at, _ in found], values, color=colour, label=name, lw=1.4, **style)
        name = "_"  # one entry in the legend


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.grid(axis="y", color="#e3e7ef", zorder=0)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            frameon=False,
            ncols=len(labels),
            loc="lower right",
            bbox_to_anchor=(1, 0.98),
            borderaxespad=0,
            handlelength=1.4,
            fontsize=8,
        )
    elif not axes.collections:
        axes.text(0.5, 0.4, "no look could read this", transform=axes.transAxes, ha="center")
