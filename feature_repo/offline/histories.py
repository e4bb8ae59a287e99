"""Histories as of cut-offs: slices of each user's events, one list a user.

A window per event would write every event up to `history_length` times; a list per user has each
once, and a history is a slice of it.
"""

from collections.abc import Callable

import ibis
import ibis.expr.types as ir

from feature_repo.config import EVENT_TIME, FeatureConfig
from feature_repo.offline.events import EVENT_US, NUMBER, RANK, TIME_US, Numbered
from recommender import schema
from recommender.engines.base import TableEngine

# How many of a user's events are known just before the event of a number.
Known = Callable[[ir.IntegerValue], ir.IntegerValue]


def strictly_before(number: ir.IntegerValue) -> ir.IntegerValue:
    """All that have a lower number: neither the event itself nor one after it."""
    return number - 1


def event_lists(
    engine: TableEngine, timed: ir.Table, ids: Numbered, cutoffs: ir.Table, config: FeatureConfig
) -> ir.Table:
    """One row a user, kept on the engine: what he did, in order, and where his windows end.

    Returns:
        user, user_id. items, times, ranks, moments: lists of the same length `events`. valid, test:
        numbers of the targets, and windows: training windows; null and 0 outside the core.
    """
    named = timed.join(ids.items, "item")
    # As structs, which sort by their first field: lists that are collected in an order of their
    # own are not in every engine.
    entry = ibis.struct(
        {
            NUMBER: named[NUMBER],
            "item": named[schema.ITEM_ID],
            TIME_US: named[TIME_US],
            RANK: named[RANK],
            EVENT_US: named[EVENT_US],
        }
    )
    entries = engine.keep("entries", named.group_by("user").agg(all=entry.collect()))
    entries = entries.select("user", all=entries["all"].sort())
    lists = entries.join(ids.users, "user").left_join(cutoffs, "user")
    return engine.keep(
        "lists",
        lists.select(
            "user",
            schema.USER_ID,
            "valid",
            "test",
            items=lists["all"].map(lambda each: each["item"]),
            times=lists["all"].map(lambda each: each[TIME_US]),
            ranks=lists["all"].map(lambda each: each[RANK]),
            moments=lists["all"].map(lambda each: each[EVENT_US]),
            events=lists["all"].length(),
            windows=_train_windows(lists.valid, config),
        ),
    )


def _train_windows(valid: ir.IntegerColumn, config: FeatureConfig) -> ir.IntegerValue:
    stride = config.history_length - config.train_overlap
    left = ibis.greatest(valid - 1 - config.history_length, 0)  # older than the latest window
    windows = ((left + stride - 1) // stride + 1).cast("int64")
    if config.train_windows != "all":
        windows = ibis.least(windows, config.train_windows)
    return ibis.ifelse(valid.isnull(), 0, windows)


def history_rows(
    engine: TableEngine, lists: ir.Table, config: FeatureConfig, known: Known = strictly_before
) -> ir.Table:
    """Rows of user_history.parquet: by user and time."""
    rows = lists.order_by("user")
    if config.offline_rows == "all":
        rows = rows.mutate(at=ibis.range(1, rows.events + 1).unnest())
    else:
        # Just before each cut-off, and the latest, which is all of a user outside the core.
        first = ibis.ifelse(rows.windows > 0, 0, 1)
        rows = rows.mutate(place=ibis.range(first, rows.windows + 2).unnest())
        cut = ibis.ifelse(rows.place < rows.windows, train_cut(rows, config), rows.test)
        rows = rows.mutate(at=ibis.ifelse(rows.place > rows.windows, rows.events, known(cut)))
    end = rows["at"]
    start = ibis.greatest(end - config.history_length, 0)
    return rows.select(
        schema.USER_ID,
        history=rows["items"][start:end],
        history_times=rows.times[start:end],
        history_ranks=rows.ranks[start:end],
        event_count=end - start,
        last_event_time=engine.moment(at(rows.times, end)),
        **{EVENT_TIME: engine.moment(at(rows.moments, end))},
    )


def at(values: ir.ArrayValue, number: ir.IntegerValue) -> ir.Value:
    """What a list of all events has for the event of a number."""
    return values[(number - 1).cast("int32")]  # Spark takes no longer one


def train_cut(rows: ir.Table, config: FeatureConfig) -> ir.IntegerValue:
    """The event before which the training window of `place` ends: the oldest is at place 0."""
    stride = config.history_length - config.train_overlap
    return rows.valid - (rows.windows - 1 - rows.place) * stride
