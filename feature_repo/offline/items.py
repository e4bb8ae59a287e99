"""What is known of each item, as of the last event."""

from pathlib import Path

import ibis
import pyarrow as pa

from feature_repo.config import EVENT_TIME
from recommender import schema
from recommender.engines.base import TableEngine

FEATURES = pa.schema(
    [
        (schema.ITEM_ID, pa.string()),
        (schema.TITLE, pa.string()),
        (schema.CATEGORIES, pa.list_(pa.string())),
        ("popularity", pa.int64()),
        ("vector", pa.list_(pa.float32())),
        (EVENT_TIME, pa.timestamp("us", tz="UTC")),
    ]
)


def write_items(engine: TableEngine, snapshot: Path, vectors: Path, events: Path, out: Path) -> int:
    """Write item_features.parquet: the number of items.

    Args:
        snapshot, vectors: the folders of ingestion and of recommender.text.
        events: events.parquet of this room.
    """
    # By name: columns that ride along may be called as ours are.
    items = engine.parquet(schema.table_path(snapshot, "items"))[
        [schema.ITEM_ID, schema.TITLE, schema.CATEGORIES]
    ]
    vector = engine.parquet(vectors / "vectors.parquet")[[schema.ITEM_ID, "vector"]]
    timed = engine.parquet(events)
    counts = timed.group_by(schema.ITEM_ID).agg(popularity=timed.count())
    described = items.join(vector, schema.ITEM_ID).left_join(counts, schema.ITEM_ID)
    features = described.select(
        schema.ITEM_ID,
        schema.TITLE,
        schema.CATEGORIES,
        popularity=ibis.coalesce(described.popularity, 0),
        vector=described.vector.cast("array<float32>"),
        **{EVENT_TIME: timed[EVENT_TIME].max().as_scalar()},
    )
    return engine.write(features.order_by(schema.ITEM_ID), out, FEATURES)
