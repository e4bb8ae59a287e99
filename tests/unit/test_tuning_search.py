"""The search around its trials: pruning, kills, Ctrl-C, refusals, failures, going on later."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tuning_scene import opened, protocol_command, search, tuning

from recommender.errors import KuberecError
from tuning.results import best_rows, rows

TESTS = Path(__file__).resolve().parents[1]


def states(study):
    return [row.state for row in rows(study.trials())]


def test_trials_side_by_side_keep_to_the_budget_and_a_later_search_adds_to_it(tmp_path):
    with opened(tmp_path, tuning()) as study:
        assert search(study, 5, jobs=3).run() == "spent"
        counted = [state for state in states(study) if state != "refused"]
        assert counted == ["complete"] * 5
    with opened(tmp_path, tuning()) as study:
        went_on = search(study, 6)
        assert went_on.run() == "spent"
        assert sum(state != "refused" for state in states(study)) == 6
        (best,) = best_rows(rows(study.trials()), 1)
        assert best.value == pytest.approx(best.values["training.learning_rate"], abs=1e-6)


def test_a_low_trial_is_pruned_after_its_first_epochs(tmp_path):
    scores = iter([0.8, 0.8, 0.1, 0.9])
    config = tuning(pruner={"startup_trials": 2, "warmup_epochs": 2})
    with opened(tmp_path, config) as study:
        search(study, 4, protocol_command(lambda _: next(scores))).run()
        found = [row for row in rows(study.trials()) if row.state != "refused"]
    assert [row.state for row in found] == ["complete", "complete", "pruned", "complete"]
    assert [row.epochs for row in found] == [4, 4, 2, 4]
    assert "after epoch 2 was too low" in found[2].reason


def test_a_config_that_is_refused_is_pruned_with_its_reason_and_costs_no_trial(tmp_path):
    with opened(tmp_path, tuning()) as study:
        study.optuna.enqueue_trial(
            {"model.dim": 12, "model.heads": 8, "training.learning_rate": 0.01}
        )
        found = search(study, 1)
        found.run()
        first, *rest = rows(study.trials())
    assert (first.state, first.epochs) == ("refused", 0)
    assert "dim (12) must be a multiple of heads (8)" in first.reason
    assert [row.state for row in rest].count("complete") == 1
    assert found.told[0].state == "refused"


def test_a_killed_search_is_taken_over_and_its_trial_run_again_with_the_same_values(tmp_path):
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from tuning_scene import opened, protocol_command, search, tuning\n"
        "with opened(Path(sys.argv[1]), tuning()) as study:\n"
        "    search(study, 3, protocol_command(wait=sys.argv[1] + '/go')).run()\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(TESTS)])
    running = []
    deadline = time.monotonic() + 60
    with opened(tmp_path, tuning()) as study:
        while not running and time.monotonic() < deadline:
            running = [row for row in rows(study.trials()) if row.state == "running" and row.epochs]
            time.sleep(0.05)
        assert study.take_over() == 0  # it lives
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert study.take_over() == 1
        (tmp_path / "go").touch()  # the orphan reads the end of its stdin, and stops
        search(study, 3).run()
        found = [row for row in rows(study.trials()) if row.state != "refused"]
    assert [row.state for row in found] == ["again", "complete", "complete", "complete"]
    assert found[0].reason == "its search was killed"
    assert found[1].values == found[0].values == running[0].values


def test_a_study_that_was_interrupted_proposes_what_it_would_have_proposed(tmp_path):
    with opened(tmp_path / "whole", tuning()) as study:
        search(study, 6).run()
        whole = [row.values for row in rows(study.trials())]
    for trials in (2, 4, 6):
        with opened(tmp_path / "parts", tuning()) as study:
            search(study, trials).run()
            parts = [row.values for row in rows(study.trials())]
    assert parts == whole
    assert len({row["training.learning_rate"] for row in whole}) == len(whole)


def test_a_killed_trial_is_tried_again_as_often_as_the_settings_allow(tmp_path):
    def suicide(_):
        return [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]

    with opened(tmp_path, tuning(retries=1)) as study:
        found = search(study, 1, suicide)
        found.run()
        counted = [row for row in rows(study.trials()) if row.state != "refused"]
    assert [row.state for row in counted] == ["again", "failed"]
    assert counted[0].values == counted[1].values
    assert counted[1].reason == "killed by SIGKILL"


def test_ctrl_c_ends_the_trials_keeps_the_best_and_queues_what_was_cut_short(tmp_path):
    with opened(tmp_path, tuning()) as study:
        search(study, 1).run()
        best = study.best()
        endless = search(study, 3, protocol_command(wait=tmp_path / "never"))

        def interrupt():
            while not any(row.state == "running" and row.epochs for row in rows(study.trials())):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        assert endless.run() == "interrupted"
        assert study.best().number == best.number
        assert "running" not in states(study)
        assert states(study)[-2:] == ["again", "queued"]
        assert study.spent() == 1


def test_at_the_timeout_what_runs_is_cut_short_and_queued(tmp_path):
    with opened(tmp_path, tuning()) as study:
        never = protocol_command(wait=tmp_path / "never")
        assert search(study, 3, never, timeout_s=0.5).run() == "timeout"
        assert states(study)[-1] == "queued"


def test_failures_carry_their_reason_and_a_search_where_all_fail_gives_up(tmp_path):
    with opened(tmp_path, tuning()) as study:
        failing = search(study, 9, protocol_command(fail="out of memory: lower batch_size"))
        with pytest.raises(KuberecError, match="all 3 trials failed, the last because: out of mem"):
            failing.run()
        assert [row.reason for row in rows(study.trials()) if row.state == "failed"] == [
            "out of memory: lower batch_size"
        ] * 3


def test_a_study_of_other_data_or_space_is_refused_by_name(tmp_path):
    with opened(tmp_path, tuning(), "data"):
        pass
    with (
        pytest.raises(KuberecError, match=r"trials of another data.*--study"),
        opened(tmp_path, tuning(), "other"),
    ):
        pass
