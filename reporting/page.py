"""report.html: one page that carries everything it shows."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

from reporting import rollout_text
from reporting.card import text
from reporting.card.measured import BEYOND, MEANING
from reporting.card.plots import calibration_plot, popularity_plot, slices_plot
from reporting.compression_page import ledger_parts
from reporting.plots import metric_bars, training_curves
from reporting.templating import templates

SHOWN_METRICS = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")


def render(summary: Mapping[str, Any]) -> str:
    """The page of a run's summary (reporting.summary), as HTML text."""
    rankers = summary["evaluation"]["rankers"]
    card = summary["card"]
    measured = card["evaluation"]
    ledger = summary["compression"]
    beyond = [name for name in BEYOND if measured["rankers"][0].get(name) is not None]
    slices, calibration, champion = (
        measured[part] for part in ("slices", "calibration", "champion")
    )
    return (
        environment()
        .get_template("report.html")
        .render(
            run=summary,
            metric_names=SHOWN_METRICS,
            training_svg=training_curves(
                summary["training"]["epochs"], summary["training"]["best_epoch"]
            ),
            people=text.people_facts(card["people"]),
            data_facts=text.data_facts(card["data"]),
            champion=text.beside_champion(champion) if champion else None,
            behaviour=text.behaviour_note(measured),
            meaning=" ".join(MEANING[name] for name in beyond),
            slices_svg=slices_plot(slices, measured["rankers"][0]["ndcg@10"]) if slices else None,
            calibration_svg=calibration_plot(calibration) if calibration else None,
            popularity_svg=popularity_plot(measured["rankers"]) if beyond else None,
            metrics_svg=metric_bars(rankers, SHOWN_METRICS),
            compression=ledger_parts(ledger["rows"], ledger["measured"]),
        )
    )


def environment() -> Environment:
    """The templates, with what they need to show a rollout."""
    made = templates()
    for name in ("number", "share", "ms", "clock", "date", "time"):
        made.filters[name] = getattr(rollout_text, name)
    made.globals["step_names"] = rollout_text.STEP
    return made
