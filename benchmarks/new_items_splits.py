"""Which items are new, and when: splits of two data sets for benchmarks.new_items.

Neither file has timestamps; each has a clock of another kind.

ml-1m: users joined MovieLens in the order of their original ids, the highest first (the share of
    ratings that go to films of 2000 rises from 2.4 % to 5.2 % along it), and rated within days of
    that. Time is the share of users who have joined; an item is new if no earlier user has it.
beauty: Amazon gave its ids (ASIN) in the order in which products were listed (the mean place in a
    user's sequence rises from 0.37 to 0.72 along them). Time is the share of ids that are given;
    what a user did from the first new item on comes after it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sequence_data import read_sequences

Periods = tuple[tuple[float, float], tuple[float, float]]
Case = tuple[list[str], str]  # what came before, and the item that came then


@dataclass(frozen=True)
class Period:
    """Attributes:
    train: sequences before the period, oldest first.
    known: items of `train`, in order of their number.
    new: items that come up for the first time in the period.
    new_cases: every event of the period with a new item.
    known_cases: an event a user of the period with a known item, the latest.
    new_share: of the period's events, those with new items.
    """

    train: list[list[str]]
    known: list[str]
    new: list[str]
    new_cases: list[Case]
    known_cases: list[Case]
    new_share: float

    def counts(self) -> dict[str, float]:
        return {
            "training events": sum(map(len, self.train)),
            "known items": len(self.known),
            "new items": len(self.new),
            "cases with a new item": len(self.new_cases),
            "cases with a known item": len(self.known_cases),
            "share of events with a new item": round(self.new_share, 4),
        }


def by_joining(data: Path, begin: float, end: float) -> Period:
    """Users who joined between the shares `begin` and `end`, after those who joined before."""
    pairs = (data / "sas_to_original_users.txt").read_text().split()
    original = dict(zip(pairs[::2], map(int, pairs[1::2]), strict=True))
    sequences = read_sequences(data)
    users = sorted(sequences, key=lambda user: -original[user])
    before, until = int(len(users) * begin), int(len(users) * end)
    train = [sequences[user] for user in users[:before]]
    return _period(train, [(sequences[user], 0) for user in users[before:until]])


def by_listing(data: Path, begin: float, end: float) -> Period:
    """Products listed between the shares `begin` and `end` of all, after those listed before."""
    rows = [json.loads(line) for line in (data / "items.jsonl").read_text().splitlines()]
    order = [str(row["id"]) for row in sorted(rows, key=lambda row: row["asin"])]
    first, last = int(len(order) * begin), int(len(order) * end)
    new, listed = set(order[first:last]), set(order[:last])
    train, later = [], []
    for items in read_sequences(data).values():
        known = [item for item in items if item in listed]
        start = next((place for place, item in enumerate(known) if item in new), len(known))
        train.append(known[:start])
        later.append((known, start))
    return _period(train, later)


def _period(train: list[list[str]], later: Sequence[tuple[list[str], int]]) -> Period:
    """`later`: whole sequences, each with the place where the period begins."""
    known = {item for items in train for item in items}
    new = {item for items, start in later for item in items[start:]} - known
    new_cases: list[Case] = []
    known_cases: list[Case] = []
    events = 0
    for items, start in later:
        places = range(max(start, 1), len(items))
        events += len(places)
        new_cases += [(items[:place], items[place]) for place in places if items[place] in new]
        # From the second item of the period on: its first is a new one in `by_listing`.
        latest = [place for place in places if place > start and items[place] in known]
        known_cases += [(items[:place], items[place]) for place in latest[-1:]]
    return Period(
        train,
        sorted(known, key=int),
        sorted(new, key=int),
        new_cases,
        known_cases,
        len(new_cases) / max(events, 1),
    )


# Of each split the periods for choosing and for measuring.
SPLITS: dict[str, tuple[Callable[[Path, float, float], Period], Periods]] = {
    "joining": (by_joining, ((0.05, 0.1), (0.1, 1.0))),
    "listing": (by_listing, ((0.8, 0.9), (0.9, 1.0))),
}
