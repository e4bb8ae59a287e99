"""The recipes of make bench-compression can be taken, and what its table says of the aims."""

from pathlib import Path

import pytest
from ledger_rows import FULL_NDCG, ledger_row

from benchmarks.compression import RECIPES, read_recipe
from benchmarks.compression_sides import EXPORTED, SIDES
from benchmarks.compression_tables import as_lines, as_markdown, finding
from pipelines.config import load_config
from recommender.compression.check import check_shapes
from recommender.errors import KuberecError
from recommender.settings import CompressionConfig

CONFIGS = Path(__file__).resolve().parents[2] / "pipelines" / "configs"


@pytest.mark.parametrize("config", ["movielens-1m", "amazon-beauty"])
def test_every_recipe_can_be_taken_of_both_full_models(config):
    model = load_config(CONFIGS / f"{config}.yaml").model
    recipes = {path.stem: read_recipe(path) for path in RECIPES.glob("*.yaml")}
    assert len(recipes) >= 8
    assert not set(recipes) & set(SIDES)
    for recipe in recipes.values():
        steps = CompressionConfig(steps=recipe["steps"]).steps
        assert len(check_shapes(steps, model)) == len(steps)


def test_a_recipe_with_another_key_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("about: it\nsteps: []\nbudget: 3\n")
    with pytest.raises(KuberecError, match=r"mine.yaml': a recipe has the keys about and steps"):
        read_recipe(path)


def test_the_finding_names_what_reaches_every_aim_at_once():
    rows = [
        ledger_row("full"),
        ledger_row("small", 0.979 * FULL_NDCG, smaller=40, faster=40),  # keeps too little
        ledger_row("fast", 0.99 * FULL_NDCG, smaller=7, faster=9),  # too large
        ledger_row("slow", 0.99 * FULL_NDCG, smaller=9, faster=3),
        ledger_row("good", 0.985 * FULL_NDCG, smaller=8.5, faster=4.5),
    ]
    found = finding(rows)
    assert found["reached_by"] == ["good"]
    assert found["smallest_that_keeps"] == {"step": "slow", "times_smaller": 9}
    assert found["fastest_that_keeps"] == {"step": "fast", "times_faster": 9}
    assert as_lines(found)[0].endswith("than the full model exported as it is: good")
    assert finding(rows[:2])["reached_by"] == []
    assert as_lines(finding(rows[:2]))[0].endswith("reached by none")
    # Exported as it is, the full model reads padding: an aim that is easier to reach.
    rows.insert(1, ledger_row(EXPORTED, FULL_NDCG, smaller=1, faster=0.5))
    found = finding(rows)
    assert found["reached_by"] == ["slow", "good"]
    assert found["reached_over_full_without_padding_by"] == ["good"]
    assert all(as_markdown(rows).count(f"| {row['step']} |") == 2 for row in rows)
