"""Live events beside another writer, and over a database that was away."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_homes import KINDS, LENGTH, Home, live_home
from live_log import START_US, Sent, by_hand, lines

from feature_repo.live.histories import LiveHistories
from feature_repo.live.intake import Intake
from feature_repo.live.rows import entries_of
from feature_repo.stores.base import StoreDown

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module", params=KINDS)
def home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    with live_home(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


def push_all(home: Path, log: list[Sent], meet: Any) -> None:
    with LiveHistories(home) as histories:
        histories.open()
        meet.wait(100)
        for start in range(0, len(log), 5):
            Intake(histories, None).take(lines(log[start : start + 5]))


def test_two_who_push_for_the_same_users_lose_nothing(home: Home) -> None:
    users = ("both-a", "both-b")
    log = [Sent((users[n % 2], f"i{n}", START_US + 1000 * (n * 37 % 400), 0)) for n in range(400)]
    context = multiprocessing.get_context("spawn")
    meet = context.Barrier(2)
    halves = [log[part::4] + log[part + 1 :: 4] for part in (0, 2)]
    other = context.Process(target=push_all, args=(home.home, halves[0], meet))
    other.start()
    push_all(home.home, halves[1], meet)
    other.join(100)
    assert other.exitcode == 0
    expected = by_hand(log, LENGTH)
    rows = home.stored(users)
    assert {user: entries_of(row)[0] for user, row in rows.items()} == expected


@pytest.mark.parametrize("home", ["postgres"], indirect=True)
def test_a_database_that_was_away_is_found_again(home: Home) -> None:
    """It has the rows and the registry; the latter alone is no reason to stop."""
    with LiveHistories(home.home, recheck_s=0.0) as histories:
        intake = Intake(histories, None)
        intake.take(lines([Sent(("away", "a", START_US, 0))]))
        home.server.kill()
        for _ in range(2):
            with pytest.raises(StoreDown):
                intake.take(lines([Sent(("away", "b", START_US + 1, 0))]))
        home.server.start()
        intake.take(lines([Sent(("away", "b", START_US + 1, 0))]))
    assert home.read("away") == {"away": ["a", "b"]}
