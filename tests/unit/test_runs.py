"""The folder of runs."""

import os
import subprocess

import pytest

from pipelines.runs import FAILED, KILLED, RUNNING, SUCCEEDED, card_of, list_runs, new_run
from recommender.errors import KuberecError


def test_two_runs_in_one_second_get_folders_of_their_own(tmp_path):
    first, second = (new_run(tmp_path, "demo", "name: demo\n") for _ in range(2))
    assert first.folder != second.folder
    assert {run.id for run in list_runs(tmp_path)} == {first.id, second.id}


def test_a_run_whose_process_is_gone_counts_as_killed(tmp_path):
    run = new_run(tmp_path, "demo", "name: demo\n")
    assert run.record()["status"] == RUNNING
    ended = subprocess.Popen(["true"])
    ended.wait()
    run.update(pid=ended.pid)
    assert run.record()["status"] == KILLED


def test_the_end_of_a_run_is_noted_with_its_seconds(tmp_path):
    for status in (SUCCEEDED, FAILED):
        run = new_run(tmp_path, "demo", "name: demo\n")
        run.finish(status)
        record = run.record()
        assert record["status"] == status
        assert record["seconds"] >= 0
        assert record["pid"] == os.getpid()


def test_the_card_is_that_of_the_run_or_of_the_newest_that_has_one(tmp_path):
    with pytest.raises(KuberecError, match=r"no run in .* has a MODEL_CARD\.md"):
        card_of(tmp_path)
    first, second = (new_run(tmp_path, "demo", "name: demo\n") for _ in range(2))
    first.card.write_text("# of the first\n", encoding="utf-8")
    assert card_of(tmp_path) == card_of(tmp_path, first.id) == "# of the first\n"
    with pytest.raises(KuberecError, match=r"has no MODEL_CARD\.md.* it is running"):
        card_of(tmp_path, second.id)
    with pytest.raises(KuberecError, match="there is no run 'other'"):
        card_of(tmp_path, "other")
