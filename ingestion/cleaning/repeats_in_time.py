"""The same user, item and type again within a window: one event.

The first stays. An event is dropped if it stands at most the window after the last event *kept*
of its user, item and type, so that a long row of clicks becomes one event a window, not one
event. (Measured from the last event of any kind, a player that pings every half minute for a
day would leave one event of it, and one ping more or less at noon would move the evening's.)

What is kept then depends on what was kept before, which no window of SQL says. But where the
next kept one would be is known of every event, whether or not it is kept itself: the first that
stands beyond its window. So the kept ones are a path of such hops from the first, and hops put
together in pairs (one, two, four, ...) reach its end in log2(length) joins: exact, and alike on
every engine.
"""

from itertools import count

import ibis
import ibis.expr.types as ir

from ingestion.cleaning.repeats import candidates
from ingestion.cleaning.rule import REASON, Rule
from ingestion.engines.base import Keep
from recommender import schema

REPEAT = "repeat within the window"
_KEY = [schema.USER_ID, schema.ITEM_ID, schema.EVENT_TYPE]


def repeats_in_time(window_s: float) -> Rule:
    """Drops events at most `window_s` seconds after the last kept one of their kind.

    Events of one time are in the order of their positions.
    """
    window = ibis.interval(microseconds=round(window_s * 1e6))

    def drops(usable: ir.Table, keep: Keep) -> ir.Table:
        rows = _islands(usable, window, keep)
        short = rows[schema.TIMESTAMP].max() <= rows[schema.TIMESTAMP].min() + window
        rows = keep("repeat_rows", rows.mutate(short=short.over(group_by="island")))
        dropped = ibis.union(
            rows.filter(rows.short & (rows.place > 0)).select(schema.POSITION),
            _off_the_path(rows.filter(~rows.short), window, keep).select(schema.POSITION),
        )
        return dropped.mutate(**{REASON: ibis.literal(REPEAT)})

    return Rule("repeat_window_s", drops, counts_as_rejected=False)


def _islands(usable: ir.Table, window: ir.IntervalScalar, keep: Keep) -> ir.Table:
    """(position, timestamp, island, place, size): events without a gap longer than the window.

    What follows a longer gap is kept whatever was before it: islands have nothing to do with
    each other, and one of a single event is left out. `island` is the smallest position in it,
    `place` counts its events from 0 by time, `size` is how many it has.
    """
    rows = candidates(usable, _KEY, "repeats", keep).select(
        *_KEY, schema.TIMESTAMP, schema.POSITION
    )
    order = [schema.TIMESTAMP, schema.POSITION]
    in_time = ibis.window(group_by=_KEY, order_by=order)
    time = rows[schema.TIMESTAMP]
    rows = rows.mutate(before=time.lag().over(in_time), after=time.lead().over(in_time))
    follows = (rows[schema.TIMESTAMP] <= rows.before + window).fill_null(False)
    is_followed = (rows.after <= rows[schema.TIMESTAMP] + window).fill_null(False)
    # Alone in its island, as most are; the sorts below are of the few others.
    rows = rows.mutate(starts=~follows).filter(follows | is_followed)
    so_far = ibis.cumulative_window(group_by=_KEY, order_by=order)
    rows = rows.mutate(number=rows.starts.cast("int64").sum().over(so_far))
    whole = ibis.window(group_by=[*_KEY, "number"])
    so_far = ibis.cumulative_window(group_by=[*_KEY, "number"], order_by=order)
    position = rows[schema.POSITION]
    rows = rows.mutate(
        island=position.min().over(whole),
        size=position.count().over(whole),
        # No row_number, which is 32 bits on Spark and 64 to Ibis, so that tables do not unite.
        place=position.count().over(so_far) - 1,
    )
    return rows.select(schema.POSITION, schema.TIMESTAMP, "island", "place", "size")


def _off_the_path(rows: ir.Table, window: ir.IntervalScalar, keep: Keep) -> ir.Table:
    """The rows of islands longer than a window that no path of hops from their first reaches."""
    near = ibis.window(group_by="island", order_by=schema.TIMESTAMP, range=(None, window))
    hops = rows.select("island", "place", "size", next=rows.count().over(near))
    hops = hops.filter(hops.next < hops["size"]).select("island", "place", "next")
    hops = keep("repeat_hops_0", hops)
    reached = rows.filter(rows.place == 0).select("island", "place")
    reached = keep("repeat_reached_0", reached)
    for step in count(1):
        if hops.count().execute() == 0:
            break
        # `reached` holds the first 2^k of each path, and `hops` go 2^k of them at once: what
        # they reach is new.
        onward = reached.join(hops, ["island", "place"]).select("island", place="next")
        reached = keep(f"repeat_reached_{step % 2}", reached.union(onward))
        second = hops.select(island="island", middle="place", last="next")
        pairs = hops.join(second, [hops.island == second.island, hops.next == second.middle])
        hops = keep(
            f"repeat_hops_{step % 2}", pairs.select(hops.island, hops.place, next=second.last)
        )
    return rows.anti_join(reached, ["island", "place"])
