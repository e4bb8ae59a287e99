"""What a replayed row can turn out to be: the same, explained, or skew, and why.

A row has one cause, the first that holds in the order of `Cause`, so that shares add up to one.
"""

from enum import StrEnum


class Kind(StrEnum):
    """What a cause means for the question whether serving sees what training is shown."""

    SAME = "same"
    FRESHNESS = "freshness"  # serving was behind by no more than is allowed
    COVERAGE = "coverage"  # of this row the offline data cannot tell (yet, or any more)
    APART = "apart"  # not compared: no stored features were used, or whose they were is not known
    SKEW = "skew"


class Cause(StrEnum):
    """Of one row. `U` is the history as used, `E` the one as of then; events are those offline.

    Two entries are the same event if time, item and, of several such, number are the same.
    """

    GIVEN = "given"  # the client sent a history
    NO_FEATURES = "no_features"  # answered without, and saying so: feature_status fallback_*
    OTHER_KEY = "other_key"  # a pseudonym under another key: nobody offline
    EXPIRED_LOG = "expired_log"  # asked before the oldest event that the data still has
    MATCH = "match"  # U = E, item by item, in order
    MISSING_USER = "missing_user"  # no row in the store, for longer than is allowed
    FUTURE_EVENT = "future_event"  # U has an event that, by its time, had not happened yet
    UNKNOWN_ITEM = "unknown_item"  # U has an event of an item that the data does not know
    EXTRA_EVENT = "extra_event"  # U has an event that the data, which covers its time, lacks
    LATE_EVENT = "late_event"  # an event is missing in U between two that U has
    ORDER = "order"  # the same events in another order
    TRUNCATED = "truncated"  # U begins earlier or later than `history_length` says
    NOT_MATERIALISED = "not_materialised"  # U ends earlier than E, by more than is allowed
    LAG = "lag"  # U ends earlier than E, or there is no row yet, by no more than is allowed
    PUSHED = "pushed"  # U has live events after the last that the data covers, else it is E
    EXPIRED = "expired"  # U has events from before the oldest that the data still has
    UNEXPLAINED = "unexplained"  # U differs, and its events' times were not logged

    @property
    def kind(self) -> Kind:
        return _KINDS.get(self, Kind.SKEW)


_KINDS = {
    Cause.GIVEN: Kind.APART,
    Cause.NO_FEATURES: Kind.APART,
    Cause.OTHER_KEY: Kind.APART,
    Cause.EXPIRED_LOG: Kind.COVERAGE,
    Cause.MATCH: Kind.SAME,
    Cause.LAG: Kind.FRESHNESS,
    Cause.PUSHED: Kind.COVERAGE,
    Cause.EXPIRED: Kind.COVERAGE,
}

MEANING = {
    Cause.GIVEN: "the client sent a history of its own",
    Cause.NO_FEATURES: "answered without features, and said so (feature_status fallback_*)",
    Cause.OTHER_KEY: "pseudonyms under another key than the one at hand",
    Cause.EXPIRED_LOG: "asked before the oldest event that the offline data has",
    Cause.MATCH: "the same history",
    Cause.MISSING_USER: "the store had no row of a user who has events",
    Cause.FUTURE_EVENT: "used an event whose time is after the request",
    Cause.UNKNOWN_ITEM: "used an event of an item that the offline data does not know",
    Cause.EXTRA_EVENT: "used an event that the offline data lacks: dropped, corrected or erased",
    Cause.LATE_EVENT: "lacked an event older than its newest one: it came late, or was lost",
    Cause.ORDER: "the same events in another order",
    Cause.TRUNCATED: "another number of events than history_length",
    Cause.NOT_MATERIALISED: "lacked the latest events for longer than --allow-lag",
    Cause.LAG: "lacked the latest events, for no longer than --allow-lag",
    Cause.PUSHED: "had live events that the offline data does not cover yet",
    Cause.EXPIRED: "had events older than the offline data still has",
    Cause.UNEXPLAINED: "differs; the times of its events were not logged",
}
