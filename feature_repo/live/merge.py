"""A user's history as a set of events: merged in any order, the same history comes out.

An event is known by its time and item; the same one twice is one event. Events are in the order of
(time, rank, item), and of all a history is the latest so many. That makes merging associative,
commutative and idempotent, also beyond the length: an event that falls out has `length` later ones,
and these do not become fewer (a join semilattice: Shapiro et al. 2011, Conflict-free Replicated
Data Types, INRIA RR-7687, section 2).
"""

from collections.abc import Iterable
from typing import NamedTuple


class Entry(NamedTuple):
    """One event of a history; entries compare in the order of a history."""

    time_us: int  # microseconds since 1970, UTC
    rank: int  # among the user's events of this very microsecond, as the source has them; else 0
    item: str


def merge(first: Iterable[Entry], second: Iterable[Entry], length: int) -> list[Entry]:
    """The latest `length` of all entries, oldest first.

    Of one event with several ranks the highest counts: what a source says of the order of its ties
    is more than what a live event, without one, does.
    """
    ranks: dict[tuple[int, str], int] = {}
    for entry in (*first, *second):
        key = entry.time_us, entry.item
        ranks[key] = max(entry.rank, ranks.get(key, entry.rank))
    entries = sorted(Entry(time_us, rank, item) for (time_us, item), rank in ranks.items())
    return entries[-length:]


def rebase(
    batch: Iterable[Entry], stored: Iterable[Entry], covered_until_us: int, length: int
) -> list[Entry]:
    """A history from newly materialised data, with what came in live since that data was taken.

    Up to and with `covered_until_us`, the time of the data's last event, the data decides: what it
    has dropped (a bot, an erased event, a correction) does not come back from the store.
    """
    return merge(batch, (entry for entry in stored if entry.time_us > covered_until_us), length)
