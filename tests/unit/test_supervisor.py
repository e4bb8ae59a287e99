"""What the supervisor decides, apart from the processes: pauses, and the access log's size."""

from pathlib import Path

import pytest

from recommender.errors import KuberecError
from serving.embedded.accesslog import rotate
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.shares import SplitRefused, check_shares
from serving.embedded.state import Gateway, State
from serving.embedded.supervisor import BackOff, Supervisor
from serving.process import ProcessRef, this_process


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_first_start_is_at_once_and_the_next_ones_later_and_later() -> None:
    clock = Clock()
    back_off = BackOff(clock)
    assert back_off.wait_s("a") <= 0
    pauses = []
    for _ in range(9):
        pauses.append(back_off.tried("a"))
        assert back_off.wait_s("a") == pauses[-1]
        clock.now += pauses[-1]
        assert back_off.wait_s("a") == 0
    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert back_off.wait_s("b") <= 0  # each on its own

    clock.now += 61
    assert back_off.tried("a") == 0  # it ran for a good while


def test_trouble_is_no_reason_to_give_up_what_runs(tmp_path: Path) -> None:
    gone = Gateway(process=ProcessRef(pid=2**22, started=1), host="127.0.0.1", port=1, admin_port=2)
    endpoint = EmbeddedEndpoint(tmp_path)
    endpoint.home.save(State(gateway=gone, foreground=this_process()))
    troubles = iter([None, KuberecError("the settings do not fit"), OSError("no space left")])

    def find() -> EmbeddedEndpoint:
        trouble = next(troubles, None)
        if trouble is not None:
            raise trouble
        if len(said) == 2:
            endpoint.stop_all()  # by which the supervisor leaves
        return endpoint

    said: list[str] = []
    Supervisor(find, this_process(), said.append).run()
    assert said == [
        "Envoy could not be started: the settings do not fit\ntrying again in 0 s",
        "Envoy could not be started: no space left\ntrying again in 1 s",
    ]


def test_the_access_log_takes_so_much_and_no_more(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    assert not rotate(log, None)
    for letter in "abcdef":
        log.write_text(letter * 11)
        assert not rotate(log, None, max_bytes=11, kept=3)
        assert rotate(log, None, max_bytes=10, kept=3)
        assert not log.exists()
    kept = {path.name: path.read_text()[0] for path in tmp_path.iterdir()}
    assert kept == {"access.log.1": "f", "access.log.2": "e", "access.log.3": "d"}


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"a": 60, "b": 60}, r"100 in sum, not \{a: 60, b: 60\}"),
        ({"a": 120, "b": -20}, "must be 0 to 100 percent"),
        ({}, "100 in sum"),
        ({"b": 100}, "the current version a must be among"),
        ({"a": 90, "b": 10}, "model version a is not running"),
    ],
)
def test_shares_that_cannot_be_served_are_refused(weights: dict[str, int], reason: str) -> None:
    with pytest.raises(SplitRefused, match=reason):
        check_shares(weights, State(current="a"))
