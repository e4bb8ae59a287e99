"""The curve of a learning-rate test."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from recommender.files import atomic_file
from reporting.plots import ACCENT, MODEL, STYLE


def draw_rate_test(
    rates: Sequence[float], losses: Sequence[float], suggestion: float, target: Path
) -> None:
    """Write the smoothed loss by learning rate as a PNG, the suggested rate marked."""
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(rates, losses, color=MODEL)
        axes.axvline(suggestion, color=ACCENT, linestyle="--", linewidth=1)
        axes.annotate(
            f" {suggestion:.2g}", (suggestion, axes.get_ylim()[1]), color=ACCENT, va="top"
        )
        axes.set(
            xscale="log",
            title="training loss while the learning rate rises",
            xlabel="learning rate",
        )
        with atomic_file(target) as draft:
            figure.savefig(draft, format="png", dpi=150)
