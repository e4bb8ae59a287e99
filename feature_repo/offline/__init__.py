"""A snapshot's events and items as Feast's offline tables, computed by an engine.

    events ─ number ─▶ events.parquet ─ k-core ─▶ cut-offs
                          └─ lists of a user ─────────┴─▶ user_history.parquet, windows.parquet

An event is known by user, item and time: what has all three twice is one event, that of the lowest
position. A user's events are in the order of (timestamp, position). Many share a timestamp, so
`event_time` gives them strictly increasing times, by which "before" is exact: the timestamp where
nothing ties, else the least later microsecond that is free.
"""

ABOUT = "offline.json"  # beside the tables: what online stores need to know of them
EVENTS, HISTORIES, ITEMS = "events.parquet", "user_history.parquet", "item_features.parquet"
