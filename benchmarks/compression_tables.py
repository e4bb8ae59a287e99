"""The recipes of benchmarks.compression as Markdown, and what they say of the aims."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.compression_sides import EXPORTED, SIDES
from reporting.ledger import cost_table, quality_table
from reporting.markdown import table

Row = Mapping[str, Any]
KEPT, SMALLER, FASTER = 0.98, 8.0, 4.0
MARKS = (
    "Published: DistilBERT keeps 97 % at 1.7x smaller and 1.6x faster (Sanh et al. 2019); "
    "TinyBERT-4 96.8 % at 7.5x and 9.4x (Jiao et al. 2020); RecJPQ up to 48x smaller item tables "
    "without loss (Petrov and Macdonald 2024)."
)


def as_markdown(rows: Sequence[Row]) -> str:
    """Both of the ledger's tables, a line a row; the first is the full model's."""
    tables = (quality_table(rows), cost_table(rows))
    return "\n\n".join(table(head, cells, numbers=len(head) - 1) for head, cells in tables)


def finding(rows: Sequence[Row]) -> dict[str, Any]:
    """The recipes that reach the aims, and the smallest and the fastest that keep enough.

    The aim is over the full model exported as it is; over the full row, whose graph reads no
    padding, it is harder.
    """
    full = rows[0]["ndcg@10"]
    exported = next((row["times_faster"] for row in rows if row["step"] == EXPORTED), 1.0)
    keeping = [
        row for row in rows[1:] if row["ndcg@10"] >= KEPT * full and row["step"] not in SIDES
    ]
    small = [row for row in keeping if row["times_smaller"] >= SMALLER]
    over_exported = [row["step"] for row in small if row["times_faster"] >= FASTER * exported]
    over_full = [row["step"] for row in small if row["times_faster"] >= FASTER]
    return {
        "aim": f"NDCG@10 kept >= {KEPT:.0%} at >= {SMALLER:g}x smaller and >= {FASTER:g}x faster",
        "reached_by": over_exported,
        "reached_over_full_without_padding_by": over_full,
        "smallest_that_keeps": _best(keeping, "times_smaller"),
        "fastest_that_keeps": _best(keeping, "times_faster"),
        "published": MARKS,
    }


def as_lines(found: Mapping[str, Any]) -> list[str]:
    """The finding for a person."""
    return [
        f"{found['aim']} than the full model {EXPORTED}: {_named(found['reached_by'])}",
        "the same over the full row, which reads no padding: "
        + _named(found["reached_over_full_without_padding_by"]),
        f"smallest that keeps it: {found['smallest_that_keeps']}; "
        f"fastest: {found['fastest_that_keeps']}",
        found["published"],
    ]


def _named(steps: Sequence[str]) -> str:
    return ", ".join(steps) or "reached by none"


def _best(rows: Sequence[Row], key: str) -> dict[str, Any] | None:
    row = max(rows, key=lambda row: row[key], default=None)
    return None if row is None else {"step": row["step"], key: row[key]}
