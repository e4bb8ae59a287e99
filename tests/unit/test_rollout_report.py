"""What a person reads of a rollout: complete and readable, however it ended."""

import re
from collections.abc import Callable

import pytest
import rollout_records as records

from reporting.rollout_markdown import markdown, markdown_without
from reporting.rollout_page import page, page_without
from reporting.rollout_plots import timeline
from reporting.rollout_text import step_rows, where, without_canary
from serving.rollout.record import CheckRow, Look, Rollout, StepRecord, Verdict

every = pytest.mark.parametrize("make", records.ALL, ids=lambda make: make.__name__)


@every
def test_the_page_carries_all_it_shows(make: Callable[[], Rollout]) -> None:
    rollout = make()
    html = page(Rollout.model_validate(rollout.model_dump(mode="json")))
    assert not re.search(r'(src|href)="(https?:)?//', html)
    assert html.count("<svg") == bool(rollout.steps)
    for text in (rollout.id, rollout.canary, rollout.stable, rollout.reason):
        assert text in html
    for step in rollout.steps:
        for check in step.verdict.checks if step.verdict else []:
            assert f"<td>{check.name}</td>" in html
    for note in rollout.notes:
        assert note.reason in html
    assert "<b>\n" not in html
    assert "new | <b>" not in html  # a message is no HTML


@every
def test_the_markdown_has_every_step_check_and_note(make: Callable[[], Rollout]) -> None:
    rollout = make()
    text = markdown(rollout)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(re.match(r"^\|( .*? \|)+$", line) for line in tables)
    rows = sum(line.startswith(f"| {i} |") for i in range(1, 9) for line in tables)
    assert rows == len(rollout.steps)
    for step in rollout.steps:
        for check in step.verdict.checks if step.verdict else []:
            assert f"| {check.name} |" in text
    for note in rollout.notes:
        assert note.reason in text
    assert "<b>" not in text
    if not rollout.steps:
        assert "No step began" in text


def test_a_verdict_is_told_with_the_numbers_of_its_step() -> None:
    row = step_rows(records.rolled_back())[1]
    assert (row.number, row.percent, row.seconds) == (2, 25, 10.0)
    assert (row.verdict, row.reason) == ("bad", "p99 is 66.0 ms, limit 28.8")
    assert row.requests == (750, 250)
    assert row.p99_ms == (15.0, 66.0)
    assert row.error_rate == (0.0, 0.0)
    assert (row.overlap, row.rbo) == (0.61, 0.55)


def test_numbers_that_nobody_could_read_are_none_and_not_zero() -> None:
    row = step_rows(records.held_blind())[1]
    assert row.requests == row.error_rate == row.p50_ms == (None, None)
    assert row.overlap is None
    assert "| held | – / – | – / – |" in markdown(records.held_blind())


def test_a_step_keeps_the_last_numbers_from_before_the_metrics_went() -> None:
    rollout = records.promoted()
    blind = Look(at=records.at(13.5), canary_percent=5, outcome="inconclusive", reason="gone")
    first = rollout.steps[0]
    first.looks.append(blind)
    assert step_rows(rollout)[0].requests == step_rows(records.promoted())[0].requests
    assert timeline(rollout)


def test_a_step_without_a_verdict_is_told_by_how_the_rollout_ended() -> None:
    rollout = records.rolled_back()
    rollout.steps[-1].verdict = Verdict(outcome="inconclusive", reason="too few requests")
    rollout.reason = "the canary is not ready any more"
    row = step_rows(rollout)[-1]
    assert (row.verdict, row.reason) == ("bad", "the canary is not ready any more")
    assert step_rows(records.taken_over())[-1].verdict == "left"
    assert step_rows(records.under_way())[-1].verdict == ""


def test_a_step_that_a_killed_process_was_in_stands_there_twice() -> None:
    rollout = records.promoted()
    killed = records.step(25, 16, None, None)
    rollout.steps.insert(1, killed)
    rows = step_rows(rollout)
    assert [(row.number, row.verdict) for row in rows[:3]] == [
        (1, "good"),
        (2, "interrupted"),
        (2, "good"),
    ]
    assert "4 of 4" in page(rollout)


def test_a_reason_of_several_lines_keeps_them() -> None:
    rollout = records.never_ready()
    rollout.reason = "gate 'rollout' failed: 1 of 2 checks\n  FAIL overlap | 0.5"
    text = markdown(rollout)
    assert "```\n  FAIL overlap | 0.5\n```" in text
    assert '<p class="lines">' in page(rollout)


def test_where_it_stands_is_said_of_one_under_way() -> None:
    assert where(records.under_way()) == "step 2 of 4, 25 %"


def test_without_a_canary_there_is_a_sentence_and_the_checks() -> None:
    rows = [{"name": "version | named", "value": "v1", "limit": "v1", "passed": True}]
    html = page_without("Rollout of v1", "Nothing served before <it>.", rows)
    assert "Nothing served before &lt;it&gt;." in html
    assert "version | named" in html
    assert "<svg" not in html
    text = markdown_without("Rollout of v1", "Nothing served before.", rows)
    assert "| version \\| named | v1 | v1 | pass |" in text


def test_why_there_was_no_canary_is_told() -> None:
    first = {"version": "v2", "reused": False, "previous": None}
    assert without_canary(first) == (
        "No version served before v2, so there was nothing to compare it with."
    )
    assert "v1 did not serve when v2 came" in without_canary(first | {"previous": "v1"})
    assert "v2 served already" in without_canary(first | {"reused": True, "previous": "v1"})


def test_settings_of_another_version_cost_the_limits_and_not_the_page() -> None:
    rollout = records.promoted()
    rollout.config = {"steps": [5, 100], "no_such_key": 1}
    assert ">limit<" in timeline(records.promoted())
    assert ">limit<" not in timeline(rollout)
    assert page(rollout).count("<svg") == 1


def test_a_long_rollout_is_in_minutes() -> None:
    rollout = records.promoted()
    assert "seconds since" in timeline(rollout)
    rollout.steps.append(
        StepRecord(percent=100, began=records.at(70), ended=records.at(4000),
                   verdict=Verdict(outcome="promote", reason="fine", checks=[
                       CheckRow(name="x", limit="y", outcome="pass")]))
    )  # fmt: skip
    assert "minutes since" in timeline(rollout)
