"""The card's plots: slices with their intervals, calibration, popularity of what is shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from reporting.card.front_matter import shown
from reporting.card.measured import BEYOND
from reporting.plots import ACCENT, MODEL, OTHER, STYLE, svg

WORSE = "#c62a2f"
SHOWN_CHARACTERS = 44  # of a slice's name beside its row


def slices_plot(slices: Sequence[Mapping[str, Any]], overall: float) -> str:
    """NDCG@10 of each slice with its 95 % interval; the best baseline and the champion beside it.

    Args:
        slices: as `sorted_slices` gives them; the first is drawn on top.
        overall: the model's NDCG@10 over all users.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 0.9 + 0.27 * len(slices)), layout="constrained")
        axes = figure.subplots()
        places = range(len(slices))
        axes.axvline(overall, color=OTHER, linewidth=1, linestyle="--", zorder=1)
        for place, row in zip(places, slices, strict=True):
            color = WORSE if row["note"].startswith("worse") else MODEL
            if row.get("interval"):
                axes.plot(row["interval"], [place, place], color=color, linewidth=2, alpha=0.45)
            axes.scatter(row["ndcg@10"], place, color=color, s=30, zorder=4)
        for key, marker, color, label in (
            ("baseline_ndcg@10", "|", "#5b6780", "best baseline"),
            ("champion_ndcg@10", "D", ACCENT, "champion"),
        ):
            known = [(row[key], place) for place, row in enumerate(slices) if row.get(key)]
            if known:
                size = 60 if marker == "|" else 18
                values, at = zip(*known, strict=True)
                axes.scatter(values, at, marker=marker, color=color, s=size, zorder=3)
                axes.scatter([], [], marker=marker, color=color, s=size, label=label)
        axes.scatter([], [], color=MODEL, s=30, label="model, 95 % interval")
        axes.plot([], [], color=OTHER, linewidth=1, linestyle="--", label="model, all users")
        axes.set_yticks(places, [_label(row) for row in slices])
        axes.set_ylim(len(slices) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.grid(axis="x", color="#e3e7ef", zorder=0)
        axes.set_xlabel("test NDCG@10")
        figure.legend(loc="outside upper left", frameon=False, ncols=4)
        return svg(figure)


def calibration_plot(calibration: Mapping[str, Any]) -> str:
    """How often the first item was chosen, against the probability that it was given."""
    bins = [each for each in calibration["bins"] if each["users"]]
    with rc_context(STYLE):
        figure = Figure(figsize=(4.1, 3.1), layout="constrained")
        axes = figure.subplots()
        most = max([0.01, *(max(each["confidence"], each["accuracy"]) for each in bins)]) * 1.08
        axes.plot([0, most], [0, most], color=OTHER, linewidth=1, linestyle="--")
        axes.plot(
            [each["confidence"] for each in bins],
            [each["accuracy"] for each in bins],
            color=MODEL,
            marker="o",
            markersize=4,
        )
        axes.set(
            title="calibration of the first item",
            xlabel="probability, mean of a bin of users",
            ylabel="share that chose it",
            xlim=(0, most),
            ylim=(0, most),
        )
        axes.grid(color="#e3e7ef", zorder=0)
        return svg(figure)


def popularity_plot(rankers: Sequence[Mapping[str, Any]]) -> str:
    """Coverage, novelty and popularity bias of the model beside its baselines."""
    names = [name for name in BEYOND if rankers[0].get(name) is not None]
    with rc_context(STYLE):
        figure = Figure(figsize=(4.1, 3.1), layout="constrained")
        panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
        for axes, name in zip(panels, names, strict=True):
            known = [row for row in rankers if row.get(name) is not None]
            colors = [MODEL if row["ranker"] == "model" else OTHER for row in known]
            labels = [row["ranker"] for row in known]
            bars = axes.barh(labels, [row[name] for row in known], color=colors, height=0.7)
            axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=2)
            axes.set_title(shown(name))
            axes.invert_yaxis()
            axes.tick_params(axis="y", labelsize=7, length=0)
            axes.set_xticks([])
            axes.margins(x=0.12)
            axes.spines["bottom"].set_visible(False)
            if name == "popularity_bias":
                axes.axvline(1, color=ACCENT, linewidth=1, linestyle="--")
        return svg(figure)


def _label(row: Mapping[str, Any]) -> str:
    name = f"{row['by']}: {row['slice']}".replace("$", r"\$")  # $…$ would be set as mathematics
    return name if len(name) <= SHOWN_CHARACTERS else name[: SHOWN_CHARACTERS - 1] + "…"
