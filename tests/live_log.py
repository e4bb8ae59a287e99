"""Random logs of live events, and the histories that they must end in, by brute force."""

import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from feature_repo.live.intake import Line
from feature_repo.live.merge import Entry

START_US = 1_750_000_000_000_000


class Sent(tuple[str, str, int, int]):
    """(user, item, microseconds, rank)."""


@st.composite
def logs(draw: st.DrawFn, users: int = 3, most: int = 30) -> list[Sent]:
    """Of few users, items and moments: ties, repeats, and histories that overflow."""
    event = st.tuples(
        st.integers(0, users - 1).map("u{}".format),
        st.integers(0, 5).map("i{}".format),
        st.sampled_from([0, 1, 2, 999_999, 1_000_000, 5_000_000]).map(START_US.__add__),
        st.integers(0, 2),
    )
    return [Sent(each) for each in draw(st.lists(event, min_size=1, max_size=most))]


@st.composite
def deliveries(draw: st.DrawFn, log: Sequence[Sent]) -> list[list[Sent]]:
    """A log in another order, some of it twice, in batches of any size."""
    again = draw(st.lists(st.sampled_from(list(log)), max_size=5))
    order = draw(st.permutations([*log, *again]))
    cuts = sorted(draw(st.sets(st.integers(0, len(order)), max_size=4)) | {0, len(order)})
    return [list(order[a:b]) for a, b in itertools.pairwise(cuts)]


def by_hand(log: Sequence[Sent], length: int) -> dict[str, list[Entry]]:
    """Each user's latest events: one for each time and item, by time, rank, item."""
    histories: dict[str, list[Entry]] = {}
    for user in {sent[0] for sent in log}:
        own = [sent for sent in log if sent[0] == user]
        found = []
        for time, item in {(sent[2], sent[1]) for sent in own}:
            rank = max(sent[3] for sent in own if (sent[2], sent[1]) == (time, item))
            found.append(Entry(time, rank, item))
        histories[user] = sorted(found)[-length:]
    return histories


def lines(log: Sequence[Sent]) -> list[Line]:
    """As a program would write them: microseconds as ISO text."""
    return [Line(json.dumps(fields(*sent)).encode(), f"log:{n}") for n, sent in enumerate(log)]


def fields(user: str, item: str, us: int, rank: int = 0) -> Mapping[str, Any]:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    return {"user_id": user, "item_id": item, "timestamp": moment.isoformat(), "rank": rank}
