"""Events numbered and timed, user by user.

Users come in parts: consecutive ids with some million events together. What is done user by user is
done part by part, so that it needs the memory of a part, not of the whole.
"""

import time
from typing import NamedTuple

import ibis
import ibis.expr.types as ir

from recommender import schema
from recommender.engines.base import Keep, TableEngine

_AHEAD_US = 86_400_000_000  # a day, as ingestion believes an event where others are judged by it
NUMBER, RANK, EVENT_US = "number", "rank", "event_us"
TIME_US = "time_us"


class Numbered(NamedTuple):
    """Ids as numbers, which count, join and sort in a third of the time of names."""

    users: ir.Table  # user_id, user: from 0 in the order of ids, part
    items: ir.Table  # item_id, item
    parts: list[tuple[str, str]]  # first and last user_id of each part


def number_ids(events: ir.Table, part_events: int | None, keep: Keep) -> Numbered:
    """Users and items of `events`.

    Args:
        part_events: events of a part, or so; None: all users are one part.
    """
    counts = keep("user_counts", events.group_by(schema.USER_ID).agg(events=events.count()))
    in_order = ibis.window(order_by=schema.USER_ID)
    before = counts.events.sum().over(ibis.cumulative_window(order_by=schema.USER_ID))
    part = (before - counts.events) // part_events if part_events else ibis.literal(0)
    users = keep(
        "users",
        counts.select(
            schema.USER_ID, user=ibis.row_number().over(in_order), part=part.cast("int64")
        ),
    )
    first_place = events[schema.POSITION].min()
    items = keep("items", events.group_by(schema.ITEM_ID).agg(item=first_place))
    name = users[schema.USER_ID]
    bounds = users.group_by("part").agg(first=name.min(), last=name.max()).order_by("part")
    rows = bounds.to_pyarrow().to_pylist()
    return Numbered(users, items, [(row["first"], row["last"]) for row in rows])


def timed_events(engine: TableEngine, events: ir.Table, ids: Numbered, part: int) -> ir.Table:
    """One part's events, each once, kept on the engine.

    Returns:
        user, item: of `ids`. time_us. number: among the user's events, from 1. rank: among those of
        the same microsecond, from 0. event_us: strictly increasing, microseconds since 1970.
    """
    first, last = ids.parts[part]
    own = events.filter(events[schema.USER_ID].between(first, last))
    coded = own.join(ids.users, schema.USER_ID).join(ids.items, schema.ITEM_ID)
    coded = coded.mutate(**{TIME_US: engine.micros(coded[schema.TIMESTAMP])})
    once = coded.group_by("user", "item", TIME_US).agg(place=coded[schema.POSITION].min())
    once = engine.keep("events_once", once)
    in_order = ibis.window(group_by="user", order_by=[TIME_US, "place"])
    in_time = ibis.window(group_by="user", order_by=TIME_US)
    numbered = once.select(
        "user",
        "item",
        TIME_US,
        earlier=ibis.rank().over(in_time),
        **{NUMBER: ibis.row_number().over(in_order) + 1},
    )
    so_far = ibis.cumulative_window(group_by="user", order_by=NUMBER)
    slack = (numbered[TIME_US] - numbered[NUMBER]).max().over(so_far)
    timed = numbered.select(
        "user",
        "item",
        TIME_US,
        NUMBER,
        **{
            RANK: numbered[NUMBER] - 1 - numbered.earlier,
            # max over j <= i of (t_j - j) + i: the closed form of e_i = max(t_i, e_{i-1} + 1 µs)
            EVENT_US: slack + numbered[NUMBER],
        },
    )
    return engine.keep(f"timed_{part}", timed)


def newest(times_us: ir.IntegerColumn) -> tuple[ir.Value, ir.Value]:
    """The newest time that is believed, null where none is, and the newest of all.

    One wrong date would say that the data covers all until then: live events would be dropped as
    what it lacks, and no later data would be newer.
    """
    limit = time.time_ns() // 1000 + _AHEAD_US
    return times_us.max(where=times_us <= limit), times_us.max()


def named_events(engine: TableEngine, timed: ir.Table, ids: Numbered) -> ir.Table:
    """Rows of events.parquet: by user and time."""
    named = timed.join(ids.users, "user").join(ids.items, "item")
    named = named.mutate(
        **{
            schema.TIMESTAMP: engine.moment(named[TIME_US]),
            "event_time": engine.moment(named[EVENT_US]),
        }
    )
    return named.order_by("user", NUMBER).drop("user", "item")
