"""The ledger for people: tables, the Pareto front, the screen of a run."""

import io
import re

import numpy as np
import pytest
from ledger_rows import ledger_row
from rich.console import Console

from pipelines.screen import _ledger
from reporting.ledger import cost_table, kept, mark, quality_table, slice_table, slices_that_lose
from reporting.pareto import front, pareto_plot

ROWS = [
    ledger_row("full"),
    ledger_row("prune", 0.1200, smaller=2, faster=1.5),
    ledger_row("quantise", 0.1229, smaller=8, faster=4),
]


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_nothing_beats(seed):
    rng = np.random.default_rng(seed)
    points = [tuple(pair) for pair in rng.integers(0, 6, size=(12, 2)).tolist()]

    def beaten(cost: int, quality: int) -> bool:
        return any(
            other <= cost and better >= quality and (other, better) != (cost, quality)
            for other, better in points
        )

    found = front(points)
    assert sorted(found) == [i for i, point in enumerate(points) if not beaten(*point)]
    assert [points[place][0] for place in found] == sorted(points[place][0] for place in found)


def test_quality_is_told_beside_the_full_model_and_the_row_before():
    table = quality_table(ROWS)
    assert table.rows[0][2:5] == ("–", "–", "–")
    assert table.rows[2][:4] == (
        "quantise",
        "0.1229 (0.1129 to 0.1329)",
        "99.6%",
        "-0.0005 (-0.0015 to +0.0005)",
    )
    assert all(len(row) == len(table.head) for row in table.rows)
    assert kept(ledger_row("zero", 0.0)) == "0.0%"


def test_costs_are_told_as_ratios_to_the_full_model_too():
    full, _, last = cost_table(ROWS).rows
    assert full[2:5] == ("90,000", "5.0", "0.40 / 0.80")
    assert last[2:5] == ("11,250 (8.0×)", "5.0", "0.10 / 0.20 (4.0×)")
    assert last[6] == "12,000 (4.0×)"
    assert cost_table([ledger_row("full") | {"runtime": "torch"}]).rows[0][0] == "full (torch)"


def test_a_slice_that_lost_beyond_chance_is_marked_and_comes_first():
    rows = slice_table(ROWS[-1]).rows
    assert [row[0] for row in rows] == ["item popularity: long tail", "item popularity: head"]
    assert rows[0][-1] == "loses"
    assert rows[1][-1] == ""
    assert slices_that_lose(ROWS[-1]) == ["item popularity: long tail"]
    assert slice_table(ROWS[0]).rows == []  # the full model is beside nothing
    assert (mark([0.1, 0.2]), mark(None)) == ("gains", "")


def test_the_plot_marks_what_serves_and_names_every_point():
    plot = pareto_plot(ROWS)
    for row in ROWS:
        assert len(re.findall(rf">{row['step']}</text>", plot)) == 2  # against bytes, and p50
    assert plot.count("#d9822b") >= 2
    assert "#d9822b" not in pareto_plot(ROWS, served=None)
    assert "#9aa5b8" in plot  # prune, which quantise beats
    assert plot == pareto_plot(ROWS)


def test_one_row_alone_is_a_ledger_too():
    """No steps: the full model is what serves."""
    alone = [ledger_row("full")]
    assert "<svg" in pareto_plot(alone)
    assert len(quality_table(alone).rows) == len(cost_table(alone).rows) == 1


def test_the_screen_has_a_line_a_step():
    out = io.StringIO()
    Console(file=out, width=120).print(_ledger(ROWS))
    (line,) = [line for line in out.getvalue().splitlines() if "quantise" in line]
    for text in ("0.1229", "-0.0005", " 11 ", "8.0x", "0.10 ms", "4.0x", "12 s"):
        assert text in line
