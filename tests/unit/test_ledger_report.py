"""The ledger for people: tables, the Pareto front, the screen of a run."""

import html
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from ledger_rows import ledger_row
from rich.console import Console

from pipelines.screen import show_ledger
from recommender.compression.budgets import budget_checks
from recommender.settings import CompressionConfig
from reporting.compression_page import page
from reporting.ledger import (
    cost_table,
    kept,
    mark,
    quality_table,
    row_line,
    slice_table,
    slices_that_lose,
)
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


def screen(rows) -> list[str]:
    out = io.StringIO()
    show_ledger(rows, Console(file=out, width=100))
    return out.getvalue().splitlines()


def test_the_screen_has_a_line_a_step_and_marks_what_lost_beyond_chance():
    names = [ROWS[0], ledger_row("quantise-items 2", 0.12, smaller=2, faster=1.5), ROWS[2]]
    lines = screen(names)
    (line,) = [line for line in lines if "quantise " in line]
    for text in ("0.1229", "-0.0005 ", " 11 ", "8.0x", " 0.10 ", " 0.20 ", "4.0x", " 5 ", "12 s"):
        assert text in line
    (line,) = [line for line in lines if "quantise-items 2" in line]
    assert "-0.0034*" in line
    assert any("beyond chance" in line for line in lines)
    assert not any("*" in line or "chance" in line for line in screen([ROWS[0], ROWS[2]]))


def test_a_row_in_one_line():
    assert row_line(ROWS[0]) == "full: NDCG@10 0.1234, 90 kB, p50 0.40 ms, 12 s"
    assert row_line(ROWS[2]) == (
        "quantise: NDCG@10 0.1229 (-0.0005, -0.0015 to +0.0005), 8.0x smaller, 4.0x faster, 12 s"
    )


def test_the_page_of_a_compression_has_budgets_plot_tables_and_the_slices_of_each_step():
    limits = CompressionConfig(max_quality_loss=0.05, max_slice_quality_loss=0.01, max_bytes=100)
    rows = [*ROWS[:2], ledger_row("quantise <b>", 0.1229, smaller=8, faster=4)]
    checks = [check.as_dict() for check in budget_checks(rows, limits)]
    ledger = {"rows": rows, "checks": checks, "measured": "in turns & so"}
    raw = page(ledger, "0123456789abcdef")
    assert "quantise <b>" not in raw
    assert not re.search(r'(src|href)="(?!#)', raw)
    assert raw.count("<svg") == 1
    said = html.unescape(raw)
    broken = [check["name"] for check in checks if not check["passed"]]
    assert any("long tail" in name and "blown by step prune" in name for name in broken)
    assert f"{len(broken)} of {len(checks)} budgets broken" in said
    places = [said.index(f">{check['name']}<") for check in checks]
    failed = [place for place, check in zip(places, checks, strict=True) if not check["passed"]]
    assert sorted(places)[: len(failed)] == sorted(failed)
    for table in (
        quality_table(rows),
        cost_table(rows),
        slice_table(rows[1]),
        slice_table(rows[2]),
    ):
        for cell in (*table.head, *(cell for row in table.rows for cell in row)):
            assert f">{cell}<" in said, cell
    assert said.count("<details") == 2
    assert said.count("<details open") == 1  # of what would serve
    assert '<span class="no">loses</span>' in raw
    assert "in turns & so" in said
    assert "012345" in said

    fine = page(ledger | {"checks": [checks[1]]}, "0123")
    assert "within its budgets" in fine
    assert "broken" not in fine


def test_the_page_needs_nothing_that_serves():
    """Else every change of the server made the compressions anew: a step's image names its code."""
    script = (
        "import sys, reporting.compression_page\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'serving', 'feature_repo'}))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]", loaded.stderr
