"""compression.html: what a compression came to, also where a broken budget ends the run there.

The step `compress` writes it, so nothing here may import what serves: a change of the server would
make every compression anew (components.image).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recommender.files import atomic_file
from reporting.ledger import Row, cost_table, quality_table, slice_table, slices_that_lose
from reporting.pareto import pareto_plot
from reporting.templating import templates


def write_compression(path: Path, ledger: Mapping[str, Any], model: str) -> None:
    """The page of a ledger.

    Args:
        ledger: ledger.json: rows, checks, measured.
        model: fingerprint of the full model.
    """
    with atomic_file(path) as draft:
        draft.write_text(page(ledger, model), encoding="utf-8")


def page(ledger: Mapping[str, Any], model: str) -> str:
    """Budgets, the broken ones first, and the ledger, as HTML text."""
    checks = sorted(ledger["checks"], key=lambda check: bool(check["passed"]))
    return (
        templates()
        .get_template("compression.html")
        .render(
            model=model,
            checks=checks,
            broken=sum(not check["passed"] for check in checks),
            compression=ledger_parts(ledger["rows"], ledger["measured"]),
        )
    )


def ledger_parts(rows: Sequence[Row], measured: str) -> dict[str, Any]:
    """The ledger as ledger_macros.html shows it: a plot, two tables, the slices of each step."""
    judged = [(row, slice_table(row)) for row in rows]
    return {
        "svg": pareto_plot(rows),
        "tables": [quality_table(rows), cost_table(rows)],
        "slices": [
            {"step": row["step"], "table": table, "losing": len(slices_that_lose(row))}
            for row, table in judged
            if table.rows
        ],
        "measured": measured,
    }
