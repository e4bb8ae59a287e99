"""`kuberec rollout` at an endpoint that is played: what it shows, and whom it asks."""

import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import rollout_records as records
from rich.console import Console

from pipelines import rollout_decide
from pipelines.rollout_decide import decide
from pipelines.rollout_screen import (
    pick,
    show_history,
    show_one,
    show_status,
    status_of,
    watch_json,
    watch_status,
    what_next,
)
from pipelines.rollout_target import find_target
from recommender.errors import KuberecError
from serving.rollout.embedded.files import RolloutFiles
from serving.rollout.record import Note, Rollout
from serving.rollout.target import Observed

CONFIG = Path(__file__).resolve().parents[2] / "pipelines/configs/movielens-100k.yaml"


class PlayedTarget(RolloutFiles):
    """Real files; what serves is what a test says."""

    kind = "embedded"

    def __init__(self, root: Path, rollout: Rollout | None = None) -> None:
        super().__init__(root)
        self.seen = Observed("old", None, 0, 0, True, False)
        self.looked = 0
        if rollout is not None:
            self.save(rollout)
            if rollout.unfinished:
                self.seen = Observed("old", "new", rollout.percent, rollout.percent, True, True)

    def observe(self) -> Observed:
        self.looked += 1
        return self.seen

    def shift(self, rollout: Rollout, percent: int) -> None:
        self.seen = self.seen._replace(percent=percent, wanted_percent=percent)

    def promote(self, rollout: Rollout) -> None:
        self.seen = Observed(rollout.canary, None, 0, 0, True, False)

    def abandon(self, rollout: Rollout) -> None:
        self.seen = Observed(rollout.stable, None, 0, 0, True, False)

    def announce(self, rollout: Rollout, note: Note) -> None:
        pass


def shown(work, width: int = 160) -> str:
    out = io.StringIO()
    work(Console(file=out, width=width))
    return out.getvalue()


def status(target: PlayedTarget) -> str:
    return shown(lambda console: show_status(status_of(target), console))


@contextmanager
def at_it(target: PlayedTarget) -> Iterator[PlayedTarget]:
    """Another process holds the lock, as far as files can tell."""
    other = PlayedTarget(target.folder.parent)
    with other.exclusive():
        yield other


def test_without_a_rollout_the_status_says_what_serves(tmp_path):
    text = status(PlayedTarget(tmp_path))
    assert "old alone" in text
    assert "there was none yet" in text


def test_one_under_way_is_shown_with_shares_step_verdict_and_what_comes_next(tmp_path):
    rollout = records.under_way()
    rollout.steps[-1].verdict = records.rolled_back().steps[-1].verdict
    target = PlayedTarget(tmp_path, rollout)
    with at_it(target):
        text = status(target)
    assert "old with 75 % of the requests; canary new with 25 %" in text
    assert "step 2 of 4, 25 %" in text
    assert "pid " in text
    assert "p99 is 66.0 ms" in text
    for check in (*records.CHECKS, records.FAILED):
        assert check.name in text
    assert ": 50 %" in text.replace("\n", " ")


def test_a_killed_one_and_a_held_one_say_what_can_be_done(tmp_path):
    killed = status(PlayedTarget(tmp_path / "killed", records.under_way()))
    assert "nobody is at it" in killed
    held = status(PlayedTarget(tmp_path / "held", records.held_blind()))
    for text in (killed, held):
        words = " ".join(text.split())  # however long the name of the program is
        assert "rollout promote" in words
        assert "start the same run again" in words
    assert "metrics cannot be read" in held


def test_after_the_last_step_comes_the_promotion():
    last = records.under_way()
    last.step = 3
    assert "it is promoted" in what_next(last, "pid 1")
    last.phase = "rolling_back"
    assert what_next(last, "pid 1") == "rolling it back"


def test_what_the_gateway_has_not_done_yet_is_told(tmp_path):
    target = PlayedTarget(tmp_path, records.under_way())
    target.seen = Observed("old", "new", 5, 25, False, False, "old: [Triton] is away")
    text = status(target)
    assert "old with 95 % of the requests, not ready; canary new with 5 %, on its way to 25" in text
    assert "old: [Triton] is away" in text


def test_watching_ends_with_the_process_that_is_at_it(tmp_path):
    target = PlayedTarget(tmp_path, records.under_way())
    with at_it(target):
        watcher = threading.Thread(
            target=watch_status, args=(target, Console(file=io.StringIO()), 0.01)
        )
        watcher.start()
        assert watcher.is_alive()
    watcher.join(timeout=20)
    assert not watcher.is_alive()


def test_watching_as_json_is_a_line_for_each_look(tmp_path, capsys):
    target = PlayedTarget(tmp_path, records.under_way())
    with at_it(target):
        watcher = threading.Thread(target=watch_json, args=(target, 0.01))
        watcher.start()
        deadline = time.monotonic() + 20
        while target.looked < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    watcher.join(timeout=20)
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(looks) == target.looked
    assert looks[0]["holder"].startswith("pid ")
    assert looks[-1]["holder"] is None


def test_the_history_is_a_table_and_one_of_it_is_shown_in_full(tmp_path):
    target = PlayedTarget(tmp_path)
    for number, make in enumerate(records.ALL):
        rollout = make()
        rollout.id = f"2026112{number}T120000-{number}abc"
        target.save(rollout)
    known = target.history()
    text = shown(lambda console: show_history(known, console), 220)
    order = [text.index(f"2026112{number}T") for number in range(len(records.ALL))]
    assert order == sorted(order, reverse=True)
    for word in ("promoted", "rolled back", "held", "taken over", "under way", "60 s"):
        assert word in text
    one = shown(lambda console: show_one(pick(known, "20261121"), console))
    for word in ("25 %, 10 s: rolled back", "p = 1e-09", "RolledBack", "new | <b>"):
        assert word in one
    assert pick(known, None).id == known[0].id


def test_an_id_that_fits_none_or_several_is_an_error_that_names_them(tmp_path):
    known = [records.promoted(), records.rolled_back()]
    known[1].id = "20261127-other"
    with pytest.raises(KuberecError, match=r"several rollouts: .*other"):
        pick(known, "2026")
    with pytest.raises(KuberecError, match=r"is the id of no rollout: .*20261127-other"):
        pick(known, "x")
    with pytest.raises(KuberecError, match="none yet"):
        pick([], None)


@pytest.mark.parametrize(("what", "serves"), [("promote", "new"), ("abort", "old")])
def test_of_a_held_one_the_decision_is_done_here(tmp_path, what, serves):
    target = PlayedTarget(tmp_path, records.held_blind())
    text = shown(lambda console: decide(target, what, console), 200)
    assert target.seen.stable == serves
    assert target.seen.canary is None
    assert f"kuberec rollout {what}" in text
    ended = target.load()
    assert ended is not None
    assert ended.status == {"promote": "promoted", "abort": "rolled_back"}[what]


def test_with_nothing_under_way_there_is_nothing_to_decide(tmp_path):
    with pytest.raises(KuberecError, match=r"no rollout is under way or held$"):
        shown(lambda console: decide(PlayedTarget(tmp_path), "abort", console))
    over = PlayedTarget(tmp_path, records.promoted())
    with pytest.raises(KuberecError, match="the latest one: new was promoted"):
        shown(lambda console: decide(over, "abort", console))


def test_a_change_by_somebody_else_is_not_overwritten_by_a_decision(tmp_path):
    target = PlayedTarget(tmp_path, records.held_blind())
    target.seen = Observed("third", None, 0, 0, True, False)
    with pytest.raises(KuberecError, match="third"):
        shown(lambda console: decide(target, "promote", console))
    assert target.seen.stable == "third"


def test_the_process_at_it_is_asked_and_its_notes_are_shown(tmp_path):
    target = PlayedTarget(tmp_path, records.under_way())

    def obey() -> None:
        with at_it(target) as other:
            ready.set()
            while other.requested() != "abort":
                time.sleep(0.005)
            rollout = other.load()
            assert rollout is not None
            rollout.notes.append(Note(at=records.at(50), reason="X", message="going back"))
            rollout.status, rollout.phase, rollout.ended = "rolled_back", "done", records.at(60)
            rollout.reason = "an operator asked for it"
            other.save(rollout)

    ready = threading.Event()
    worker = threading.Thread(target=obey)
    worker.start()
    ready.wait()
    text = shown(lambda console: decide(target, "abort", console, poll_s=0.01), 200)
    worker.join()
    assert "is at it, and was asked to abort" in text
    assert "going back" in text
    assert "an operator asked for it" in text


def test_one_that_dies_before_it_has_done_it_leaves_it_to_us(tmp_path, monkeypatch):
    monkeypatch.setattr(rollout_decide, "_GRACE_S", 0.05)
    target = PlayedTarget(tmp_path, records.under_way())

    def die() -> None:
        with at_it(target) as other:
            ready.set()
            while other.requested() is None:
                time.sleep(0.005)

    ready = threading.Event()
    worker = threading.Thread(target=die)
    worker.start()
    ready.wait()
    shown(lambda console: decide(target, "abort", console, poll_s=0.01))
    worker.join()
    assert target.seen == Observed("old", None, 0, 0, True, False)


def test_a_cluster_needs_a_config_and_this_machine_none(tmp_path):
    with pytest.raises(KuberecError, match="needs --config"):
        find_target("kserve", tmp_path, None, [])
    with pytest.raises(KuberecError, match="add --target kserve"):
        find_target("embedded", tmp_path, CONFIG, [])
