"""Budgets: what blocks an export, and which step and slice it names."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from recommender_data import TINY, random_model, vocabulary, write_windows

from recommender.compression.budgets import blamed, budget_checks, lost
from recommender.compression.compress import compress
from recommender.compression.quality import Gains, Judge, require_slices
from recommender.errors import KuberecError
from recommender.evaluation.slices import Slice
from recommender.model import save_model
from recommender.settings import CompressionConfig, EvaluationConfig, ExportConfig

LIMITS = CompressionConfig(max_quality_loss=0.05, min_size_ratio=4, min_speedup=2, max_bytes=250)


def row(step: str, ndcg: float = 0.1, **other: Any) -> dict[str, Any]:
    difference = {"difference": ndcg - 0.1, "interval": [ndcg - 0.11, ndcg - 0.09]}
    small = {"bytes": 250, "times_smaller": 4.0, "times_faster": 2.0, "p99_ms": 1.0}
    made = {"step": step, "ndcg@10": ndcg, "to_full": difference, "slices": []}
    return made | small | {"memory_bytes": 1000} | other


FULL = row("full", bytes=1000, times_smaller=1.0, times_faster=1.0) | {"to_full": None}


def failed(rows, config=LIMITS) -> list[str]:
    return [check.name for check in budget_checks(rows, config) if not check.passed]


def test_what_is_within_every_budget_passes():
    checks = budget_checks([FULL, row("small", 0.096)], LIMITS)
    assert [check.name for check in checks] == [
        "small: NDCG@10 lost",
        "small: times smaller",
        "small: times faster (p50)",
        "small: bytes",
    ]
    assert all(check.passed for check in checks)
    assert checks[0].value == pytest.approx(0.04)
    assert checks[0].limit == "<= 5.0%, 95 % interval -6.0% to 14.0%"
    assert lost(FULL) == 0


def test_without_steps_no_ratio_is_asked():
    checks = budget_checks([FULL], LIMITS.model_copy(update={"steps": [], "max_bytes": 1000}))
    assert [check.name for check in checks] == ["full: NDCG@10 lost", "full: bytes"]
    assert all(check.passed for check in checks)


def test_the_last_row_alone_is_held_to_the_budgets():
    assert not failed([FULL, row("cut", 0.08), row("learnt back", 0.099)])


@pytest.mark.parametrize(
    ("kept", "place"),
    [
        ([True, False], 1),
        ([True, False, False], 1),
        ([True, False, True, False], 3),  # won back in between
        ([True, True], None),
        ([False, False, False], None),  # never reached
        ([False, True, False], 2),  # reached, and lost again
    ],
)
def test_the_step_is_named_since_which_a_budget_is_blown(kept, place):
    assert blamed(kept) == place


def test_a_blown_budget_names_the_step_that_blew_it():
    rows = [FULL, row("prune", 0.099), row("distil", 0.09), row("quantise", 0.091)]
    assert failed(rows) == ["quantise: NDCG@10 lost (blown by step distil)"]
    big = row("quantise", bytes=600, times_smaller=1000 / 600)
    assert failed([FULL, row("prune", bytes=500, times_smaller=2.0), big]) == [
        "quantise: times smaller (no step reached it)",
        "quantise: bytes (no step reached it)",
    ]


def test_p99_and_memory_are_budgets_where_they_are_asked_for():
    config = LIMITS.model_copy(update={"max_p99_ms": 0.5, "max_memory_bytes": 999})
    assert failed([FULL, row("small")], config) == [
        "small: p99, ms (no step reached it)",
        "small: bytes of memory (no step reached it)",
    ]
    assert not failed([FULL, row("small", p99_ms=0.5, memory_bytes=999)], config)


RNG = np.random.default_rng(0)
USERS = 600
FULL_GAINS = RNG.choice([0, 0.4, 1.0], size=USERS)
RARE = np.arange(USERS) < 200
EVALUATION = EvaluationConfig(bootstrap=1000, min_slice_users=100)


def judged(own: np.ndarray, groups: list[np.ndarray]) -> list[dict[str, Any]]:
    """Rows of the full model and a step, with a slice a group."""
    slices = [Slice("kind", str(place), group) for place, group in enumerate(groups)]
    full = Gains(FULL_GAINS, FULL_GAINS)
    judge = Judge(slices, EVALUATION, full)
    first = FULL | judge.quality(full, None)
    return [first, row("step") | judge.quality(Gains(own, own), full)]


def slice_failures(rows, **limits: Any) -> list[str]:
    settings: dict[str, Any] = {"max_quality_loss": 1.0, "max_slice_quality_loss": 0.1} | limits
    return failed(rows, LIMITS.model_copy(update=settings))


def test_a_slice_that_lost_too_much_beyond_chance_fails_and_is_named_with_the_step():
    own = np.where(RARE & (np.arange(USERS) % 3 == 0), 0.0, FULL_GAINS)
    rows = judged(own, [RARE, ~RARE])
    name = "step: NDCG@10 of kind '0' (200 users) (blown by step step)"
    assert slice_failures(rows) == [name]
    assert not slice_failures(rows, max_slice_quality_loss=0.5)
    assert not slice_failures(rows, max_slice_losses={"kind: 0": 0.5})
    usual = {"max_quality_loss": 0.2, "max_slice_quality_loss": None}  # twice that, of 200 users
    assert not slice_failures(rows, **usual)
    assert slice_failures(rows, **usual | {"max_quality_loss": 0.15}) == [name]
    assert slice_failures(rows, max_slice_quality_loss=1, max_slice_losses={"kind: 0": 0.1}) == [
        name
    ]


def test_a_loss_that_may_be_chance_does_not_fail():
    """Two of 200 users lost a hit, and others won: the mean is below the limit, by noise."""
    own = FULL_GAINS.copy()
    own[:60] = np.roll(FULL_GAINS[:60], 7)
    rows = judged(own * np.where(np.arange(USERS) < 3, 0, 1), [RARE])
    group = rows[1]["slices"][0]
    assert group["ndcg@10"] < group["full_ndcg@10"]
    assert not slice_failures(rows, max_slice_quality_loss=0.0)


def test_a_slice_of_few_users_is_shown_but_not_judged():
    few = np.arange(USERS) < 50
    rows = judged(np.where(few, 0.0, FULL_GAINS), [few])
    assert rows[1]["slices"][0]["ndcg@10"] == 0
    assert rows[1]["slices"][0]["simultaneous_interval"] is None
    assert not slice_failures(rows)


def test_a_harmless_step_is_seldom_stopped_by_its_slices():
    """Many slices, no true loss: the intervals hold together, so in at most 5 of 100 cases."""
    stopped = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        swapped = rng.random(USERS) < 0.5  # as good, of other users
        own = np.where(swapped, rng.permutation(FULL_GAINS), FULL_GAINS)
        rows = judged(own, [np.arange(USERS) % 6 == place for place in range(6)])
        stopped += bool(slice_failures(rows, max_slice_quality_loss=0.0))
    assert stopped <= 4  # 1 is expected; of 5, chance would be asked 1 time in 400


def test_a_budget_of_a_slice_that_is_not_there_is_said_before_anything_is_trained(tmp_path):
    windows = write_windows(tmp_path / "windows")
    (tmp_path / "model").mkdir()
    save_model(random_model(TINY), vocabulary(), tmp_path / "model")
    config = CompressionConfig(max_slice_losses={"item popularity: heads": 0.1})
    with pytest.raises(KuberecError, match="no slice 'item popularity: heads'; there are: 'act"):
        compress(tmp_path / "model", windows, config, ExportConfig(k=12), tmp_path / "compressed")
    assert not (tmp_path / "compressed").exists()


def test_a_budget_of_a_slice_that_is_not_judged_is_refused():
    few = [Slice("kind", "few", np.arange(USERS) < 50)]
    with pytest.raises(KuberecError, match="'kind: few' has 50 users and is not judged"):
        require_slices(["kind: few"], few, EVALUATION)


def test_a_share_beyond_all_is_named():
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        CompressionConfig(max_slice_losses={"item popularity: tail": 2})
