"""The features, for training (as of a time) and for serving (as of now)."""

from pathlib import Path

from feast import FeatureView, Field
from feast.types import Array, Float32, Int64, String, UnixTimestamp

from feature_repo.entities import item, user
from feature_repo.facts import read_facts
from feature_repo.sources import history_source, item_source


def user_history(offline: Path) -> FeatureView:
    """What a user did, raw item ids oldest first. No ttl: Feast would not enforce it online.

    Args:
        offline: the folder of the offline tables, whose facts become owner and tags.
    """
    facts = read_facts(offline)
    return FeatureView(
        name="user_history",
        description="the latest events of a user, as of any time",
        owner=facts.owner,
        tags=facts.tags(),
        entities=[user],
        schema=[
            Field(name="user_id", dtype=String),
            Field(name="history", dtype=Array(String), description="item ids, oldest first"),
            Field(
                name="history_times",
                dtype=Array(Int64),
                description="of each event, microseconds since 1970 (UnixTimestamp has seconds)",
            ),
            Field(
                name="history_ranks",
                dtype=Array(Int64),
                description="of each event among the user's of the same microsecond, from 0",
            ),
            Field(name="event_count", dtype=Int64, description="events that the history holds"),
            Field(name="last_event_time", dtype=UnixTimestamp),
        ],
        source=history_source(offline),
    )


def item_features(offline: Path) -> FeatureView:
    """What an item is: its text vector, categories, title, and how many events it has.

    The vector is indexed where the store can search vectors (pgvector); others pass over that.

    Args:
        offline: the folder of the offline tables, whose facts become owner and tags.
    """
    facts = read_facts(offline)
    return FeatureView(
        name="item_features",
        description="what an item is, as of the snapshot's last event",
        owner=facts.owner,
        tags=facts.tags(),
        entities=[item],
        schema=[
            Field(name="item_id", dtype=String),
            Field(name="title", dtype=String),
            Field(name="categories", dtype=Array(String)),
            Field(name="popularity", dtype=Int64, description="events of the snapshot"),
            Field(
                name="vector",
                dtype=Array(Float32),
                description="of the item's text, by the encoder of the run",
                vector_index=bool(facts.vector_length),
                vector_length=facts.vector_length,
                vector_search_metric="cosine" if facts.vector_length else None,
            ),
        ],
        source=item_source(offline),
    )
