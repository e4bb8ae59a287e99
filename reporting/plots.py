"""The page's plots, as SVG text that stands in the page itself."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

MODEL, OTHER, ACCENT = "#3056d3", "#9aa5b8", "#d9822b"
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa5b8",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "svg.fonttype": "none",
    "svg.hashsalt": "kuberec",  # the same numbers give the same page
    "font.family": "sans-serif",
}


def training_curves(epochs: Sequence[Mapping[str, float]], best_epoch: int) -> str:
    """Training loss, validation NDCG@10 and learning rate by epoch, the kept epoch marked."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.8), layout="constrained")
        loss, quality, rate = figure.subplots(1, 3)
        number = [epoch["epoch"] for epoch in epochs]
        loss.plot(number, [epoch["train_loss"] for epoch in epochs], color=MODEL)
        loss.set(title="training loss, nats", xlabel="epoch")
        quality.plot(number, [epoch["ndcg@10"] for epoch in epochs], color=MODEL)
        quality.axvline(best_epoch, color=ACCENT, linestyle="--", linewidth=1)
        quality.annotate(
            f" kept: epoch {best_epoch}",
            (best_epoch, quality.get_ylim()[0]),
            color=ACCENT,
            va="bottom",
        )
        quality.set(title="validation NDCG@10", xlabel="epoch")
        rate.plot(number, [epoch["learning_rate"] for epoch in epochs], color=MODEL)
        rate.set(title="learning rate, end of epoch", xlabel="epoch", ylim=(0, None))
        for axes in (loss, quality, rate):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return svg(figure)


def metric_bars(rankers: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Test metrics of the model beside its baselines; the model comes first."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.8), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(rankers)
        for index, metrics in enumerate(rankers):
            offset = (index - (len(rankers) - 1) / 2) * width
            bars = axes.bar(
                [place + offset for place in range(len(names))],
                [metrics[name] for name in names],
                width * 0.92,
                label=metrics["ranker"],
                color=MODEL if not index else OTHER,
                alpha=1 if index < 2 else 0.55,
            )
            axes.bar_label(bars, fmt="%.3f", fontsize=7, padding=1)
        axes.set_xticks(range(len(names)), names)
        axes.set_title("test, full ranking, history masked")
        axes.legend(frameon=False, ncols=len(rankers))
        return svg(figure)


def svg(figure: Figure) -> str:
    """The figure as text for a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    return re.sub(r"^.*?(?=<svg)", "", text, flags=re.DOTALL)  # no XML prolog inside HTML
