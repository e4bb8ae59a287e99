"""Names and types of the tables that every room shares (docs/DESIGN.md, contract 1).

A snapshot is a folder with one parquet file a table and `snapshot.json`. Columns beyond
these ride along.
"""

from pathlib import Path

import pyarrow as pa

USER_ID, ITEM_ID, TIMESTAMP = "user_id", "item_id", "timestamp"
EVENT_TYPE, VALUE = "event_type", "value"
TITLE, TEXT, CATEGORIES = "title", "text", "categories"
POSITION = "position"  # row number in the source, from 0: the tie rule for events of one timestamp

# The ranker's score of a seen item, which fills up an answer that lacks better ones. Finite, so
# that clients can put scores into JSON.
MASKED_SCORE = -1e9

EVENTS = pa.schema(
    [
        pa.field(USER_ID, pa.string(), nullable=False),
        pa.field(ITEM_ID, pa.string(), nullable=False),
        pa.field(TIMESTAMP, pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field(EVENT_TYPE, pa.string(), nullable=False),
        pa.field(VALUE, pa.float64(), nullable=False),
        pa.field(POSITION, pa.int64(), nullable=False),
    ]
)
ITEMS = pa.schema(
    [
        pa.field(ITEM_ID, pa.string(), nullable=False),
        pa.field(TITLE, pa.string(), nullable=False),
        pa.field(TEXT, pa.string(), nullable=False),
        pa.field(CATEGORIES, pa.list_(pa.string()), nullable=False),
    ]
)
USERS = pa.schema([pa.field(USER_ID, pa.string(), nullable=False)])
REJECTS = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field(POSITION, pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("row", pa.string(), nullable=False),  # the row as read, as JSON
        pa.field("file", pa.string(), nullable=False),  # as the source names it
        # In the file, from 1; blank lines and line breaks inside quotes do not count. Of parquet
        # and SQL the row.
        pa.field("line", pa.int64(), nullable=False),
    ]
)
TABLES = {"events": EVENTS, "items": ITEMS, "users": USERS}


def table_path(snapshot: Path, table: str) -> Path:
    """Where `table` (events, items, users or rejects) lies in a snapshot folder."""
    return Path(snapshot) / f"{table}.parquet"
