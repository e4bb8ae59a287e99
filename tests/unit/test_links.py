"""The parity chain's numbers, its limits, and the link that is named."""

import numpy as np
import pytest

from recommender.agreement import Answers, agreement
from recommender.errors import Check, GateFailed
from recommender.settings import ExportConfig
from serving.links import FP32, SERVED, TORCH, link_row, require_links


def lists(*rows: list[int], scores: list[float] | None = None) -> Answers:
    found = scores or [float(-place) for place in range(len(rows[0]))]
    return Answers(np.array(rows), np.array([found] * len(rows), np.float32))


def test_overlaps_of_the_first_ten_and_of_all():
    first = lists([*range(20)], [*range(20)])
    second = lists([*range(9), 99, *range(10, 19), 9], [*range(20)])
    found = agreement(first, second)
    assert found["requests"] == 2
    assert found["top_10_overlap"] == pytest.approx((0.9 + 1) / 2)
    assert found["top_k_overlap"] == pytest.approx((0.95 + 1) / 2)
    assert found["max_abs_score_diff"] == found["mean_abs_score_diff"] == 0


def test_differences_rank_by_rank():
    first = lists([1, 2], scores=[2.0, 1.0])
    found = agreement(first, lists([2, 1], scores=[2.5, 1.0]))
    assert (found["max_abs_score_diff"], found["mean_abs_score_diff"]) == (0.5, 0.25)
    assert found["top_k_overlap"] == 1
    endless = agreement(lists([1, 2], scores=[1.0, -np.inf]), lists([1, 2], scores=[1.0, -np.inf]))
    assert endless["max_abs_score_diff"] == 0


@pytest.mark.parametrize("other", [lists([1], scores=[1.0]), lists([1, 2], scores=[1.0, np.nan])])
def test_what_cannot_be_compared_is_endlessly_far(other):
    found = agreement(lists([1, 2], scores=[1.0, 0.5]), other)
    assert found["max_abs_score_diff"] == found["mean_abs_score_diff"] == np.inf


def test_ties_at_the_last_place_are_forgiven():
    first = lists([1, 2, 3], scores=[2.0, 1.0, 1.0])

    def found(*ids: int, scores: tuple[float, ...] = (2.0, 1.0, 1.0), tie: float = 0.1) -> float:
        return agreement(first, lists([*ids], scores=[*scores]), tie)["top_k_overlap"]

    assert found(1, 5, 6) == found(1, 2, 6) == 1
    assert found(5, 2, 3) < 1
    assert found(1, 2, 6, tie=0.0) < 1
    assert found(1, 2, 6, scores=(2.0, 1.0, 0.5)) < 1  # the other list does not end in the tie


def test_no_answers_are_not_compared():
    with pytest.raises(ValueError, match="2 answers cannot be compared with 1"):
        agreement(lists([1], [2]), lists([1]))


def chain(second: Answers, third: Answers) -> list[dict]:
    first = lists([*range(20)])
    return [
        link_row("onnx", TORCH, FP32, first, second),
        link_row("served", FP32, SERVED, second, third),
        link_row("triton", SERVED, "Triton, grpc", third, third),
    ]


def test_the_first_link_that_breaks_is_named():
    whole, other = lists([*range(20)]), lists([*range(50, 70)])
    checks = require_links("export", chain(whole, whole), ExportConfig())
    assert all(check.passed for check in checks)
    assert [check.name for check in checks if "Triton" in check.name]
    with pytest.raises(GateFailed) as broken:
        require_links("export", chain(other, whole), ExportConfig())
    title = str(broken.value).splitlines()[0]
    assert f"the first link that breaks: {TORCH} → {FP32}, limits export.parity.onnx" in title
    with pytest.raises(GateFailed, match=f"breaks: {FP32} → {SERVED}, limits export.parity.served"):
        require_links("export", chain(whole, other), ExportConfig())


def test_each_link_has_its_own_limits():
    whole, swapped = lists([*range(20)]), lists([*range(8), 99, *range(9, 20)])
    rows = chain(whole, swapped)
    require_links("export", rows, ExportConfig())  # 0.9 of the first ten is enough for INT8
    strict = {"parity": {"served": {"min_top_10_overlap": 0.95}}}
    with pytest.raises(GateFailed, match=r"FAIL .* as served: top-10 overlap"):
        require_links("export", rows, ExportConfig.model_validate(strict))
    mean = {"parity": {"served": {"min_overlap": 0, "mean_score_difference": 1e-9}}}
    moved = lists([*range(20)], scores=[-place + 1e-3 for place in range(20)])
    with pytest.raises(GateFailed, match=r"FAIL .* as served: mean score difference"):
        require_links("export", chain(whole, moved), ExportConfig.model_validate(mean))


def test_other_checks_fail_without_a_link():
    whole = lists([*range(20)])
    large = Check("ranker.onnx: bytes", 2, "<= 1", False)
    with pytest.raises(GateFailed) as failed:
        require_links("export", chain(whole, whole), ExportConfig(), [large])
    assert "first link" not in str(failed.value)
