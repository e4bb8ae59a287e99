"""Quality against size and against latency: which candidates no other one beats in both."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from reporting.plots import ACCENT, MODEL, OTHER, STYLE, svg

Row = Mapping[str, Any]


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the (cost, quality) that no other beats in both, from the cheapest on.

    One beats another that costs no less and is no better, unless both are alike.
    """
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1]))
    found: list[int] = []
    for place in order:
        if (
            not found
            or points[place][1] > points[found[-1]][1]
            or points[place] == points[found[-1]]
        ):
            found.append(place)
    return found


def pareto_plot(rows: Sequence[Row], served: int | None = -1, height: float = 3.2) -> str:
    """Two plots as SVG: NDCG@10 against bytes and against p50, a point a row.

    Bars are the 95 % intervals of the paired difference to the full model, the first row: users are
    the same for all, and what differs between users differs for all alike. Latency is the full
    row's p50 over `times_faster`, a ratio of one loop, so that a machine that was slower for one
    row does not move it.

    Args:
        served: the row that is marked; None: none is.
    """
    points = {
        "size of the ranker, MB": [row["bytes"] / 1e6 for row in rows],
        "p50 latency, batch 1, ms": [rows[0]["p50_ms"] / row["times_faster"] for row in rows],
    }
    marked = None if served is None else served % len(rows)
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, height), layout="constrained")
        for axes, (label, costs) in zip(figure.subplots(1, 2), points.items(), strict=True):
            _draw(axes, rows, costs, marked)
            axes.set(title="test NDCG@10", xlabel=label)
        return svg(figure)


def _draw(axes: Axes, rows: Sequence[Row], costs: Sequence[float], marked: int | None) -> None:
    quality = [row["ndcg@10"] for row in rows]
    best = front(list(zip(costs, quality, strict=True)))
    middle = (max(costs) * min(costs)) ** 0.5  # of a logarithmic axis
    axes.plot(
        [costs[place] for place in best],
        [quality[place] for place in best],
        color=MODEL,
        linewidth=1,
        drawstyle="steps-post",
        zorder=2,
    )
    for place, row in enumerate(rows):
        on_front = place in best
        axes.errorbar(
            costs[place],
            quality[place],
            yerr=_bars(row),
            fmt="o",
            markersize=6,
            color=ACCENT if place == marked else MODEL if on_front else OTHER,
            alpha=1 if on_front or place == marked else 0.55,
            elinewidth=1,
            capsize=2,
            zorder=4 if on_front else 3,
        )
        axes.annotate(
            row["step"],
            (costs[place], quality[place]),
            xytext=(6 if costs[place] <= middle else -6, 5 if place % 2 else -10),
            ha="left" if costs[place] <= middle else "right",
            textcoords="offset points",
            fontsize=8,
            color="#1c2433" if on_front else "#5b6780",
        )
    axes.set_xscale("log")
    near = max(costs) < 100 * min(costs)  # else the ticks' names stand in each other
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if near else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(0.2)
    axes.grid(color="#e3e7ef", zorder=0)


def _bars(row: Row) -> list[list[float]] | None:
    """Lengths below and above the point."""
    if row["to_full"] is None:
        return None
    difference, (low, high) = row["to_full"]["difference"], row["to_full"]["interval"]
    return [[max(difference - low, 0.0)], [max(high - difference, 0.0)]]
