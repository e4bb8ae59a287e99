"""The splits that new items are measured on: nothing of a period is known before it."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.new_items_splits import Period, by_joining, by_listing

ITEMS, USERS = 60, 40


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both data sets' files; ids of products go up with the item's number, those of users down."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    lines = []
    for user in range(1, USERS + 1):
        # Who joins later knows later items.
        seen = rng.choice(np.arange(1, 30 + user // 2 + 1), size=12, replace=False)
        lines.append(" ".join(map(str, [user, *seen])))
    (folder / "sequences.txt").write_text("\n".join(lines))
    rows = [{"id": item, "asin": f"B{item:03d}"} for item in range(ITEMS, 0, -1)]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pairs = "\n".join(f"{user} {1000 - user}" for user in range(1, USERS + 1))
    (folder / "sas_to_original_users.txt").write_text(pairs)
    return folder


def check(period: Period) -> None:
    seen = {item for items in period.train for item in items}
    assert seen == set(period.known)
    assert period.new
    assert not seen & set(period.new)
    assert period.new_cases
    assert all(target in period.new for _, target in period.new_cases)
    assert period.known_cases
    assert all(target in seen for _, target in period.known_cases)
    assert all(history for history, _ in [*period.new_cases, *period.known_cases])


def test_by_joining_later_users_are_of_the_period(data: Path) -> None:
    period = by_joining(data, 0.25, 0.75)
    check(period)
    lines = (data / "sequences.txt").read_text().splitlines()
    sequences = [line.split()[1:] for line in lines]
    assert period.train == sequences[:10]
    found = [[*history, target] for history, target in period.new_cases]
    assert all(any(whole[: len(each)] == each for whole in sequences[10:30]) for each in found)


def test_by_listing_the_period_begins_with_a_users_first_new_product(data: Path) -> None:
    period = by_listing(data, 0.5, 0.75)
    check(period)
    assert {int(item) for item in period.new} <= set(range(31, 46))
    assert max(int(item) for items in period.train for item in items) <= 30
    # What is listed later does not exist yet.
    assert all(int(item) <= 45 for history, _ in period.new_cases for item in history)
