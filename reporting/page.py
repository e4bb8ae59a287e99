"""report.html: one page that carries everything it shows."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reporting import rollout_text
from reporting.plots import compression_front, metric_bars, training_curves

SHOWN_METRICS = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")


def render(summary: Mapping[str, Any]) -> str:
    """The page of a run's summary (reporting.summary), as HTML text."""
    rankers = summary["evaluation"]["rankers"]
    return (
        environment()
        .get_template("report.html")
        .render(
            run=summary,
            metric_names=SHOWN_METRICS,
            training_svg=training_curves(
                summary["training"]["epochs"], summary["training"]["best_epoch"]
            ),
            metrics_svg=metric_bars(rankers, SHOWN_METRICS),
            compression_svg=compression_front(summary["compression"]["rows"]),
        )
    )


def environment() -> Environment:
    """The templates, with what they need to show numbers."""
    made = Environment(
        loader=PackageLoader("reporting", "templates"), autoescape=True, undefined=StrictUndefined
    )
    for name in ("number", "share", "ms", "clock", "date", "time"):
        made.filters[name] = getattr(rollout_text, name)
    made.globals["step_names"] = rollout_text.STEP
    made.filters["thousands"] = lambda value: f"{value:,}"
    made.filters["short"] = lambda value: f"{value:.4g}" if isinstance(value, float) else value
    return made
