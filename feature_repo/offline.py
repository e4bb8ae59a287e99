"""A snapshot's events and items as Feast's offline tables.

Time has microseconds, and many events share one: `event_time` gives a user's events, in the order
of (timestamp, position), strictly increasing times, so that "before" is exact. It is the timestamp
where nothing ties, else the least later microsecond that is free.
"""

from pathlib import Path
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.config import EVENT_TIME
from recommender import schema
from recommender.files import write_json

UTC = dt.Timestamp(timezone="UTC", scale=6)
_ROW_GROUP = 10_000  # histories are long
NUMBER, RANK = "number", "rank"
ABOUT = "offline.json"  # beside the tables: what online stores need to know of them


@ibis.udf.scalar.builtin(signature=((UTC,), dt.int64))
def epoch_us(moment: Any) -> Any:
    """Microseconds since 1970."""


@ibis.udf.scalar.builtin(signature=((dt.int64,), UTC))
def make_timestamptz(us: int) -> Any:
    """Microseconds since 1970 as a timestamp."""


def timed_events(connection: Any, snapshot: Path) -> ir.Table:
    """user_id, item_id, timestamp, event_time, number (from 1) and rank among its ties (from 0)."""
    events = connection.read_parquet(schema.table_path(snapshot, "events"))
    in_order = ibis.window(group_by=schema.USER_ID, order_by=[schema.TIMESTAMP, schema.POSITION])
    ties = ibis.window(group_by=[schema.USER_ID, schema.TIMESTAMP], order_by=schema.POSITION)
    numbered = events.mutate(
        **{NUMBER: ibis.row_number().over(in_order) + 1, RANK: ibis.row_number().over(ties)}
    )
    so_far = ibis.cumulative_window(group_by=schema.USER_ID, order_by=NUMBER)
    slack = (epoch_us(numbered[schema.TIMESTAMP]) - numbered[NUMBER]).max().over(so_far)
    return numbered.select(
        schema.USER_ID,
        schema.ITEM_ID,
        schema.TIMESTAMP,
        NUMBER,
        RANK,
        # max over j <= i of (t_j - j) + i: the closed form of e_i = max(t_i, e_{i-1} + 1 µs)
        **{EVENT_TIME: make_timestamptz(slack + numbered[NUMBER])},
    )


def write_offline(
    connection: Any, timed: ir.Table, snapshot: Path, vectors: Path, history_length: int, out: Path
) -> None:
    """Write user_history.parquet, item_features.parquet and offline.json into the folder `out`.

    Args:
        connection: Ibis DuckDB connection that `timed` belongs to.
        timed: of `timed_events`.
        snapshot, vectors: the folders of ingestion and of recommender.text.
        history_length: latest events that a history holds.
    """
    latest = ibis.window(
        group_by=schema.USER_ID, order_by=NUMBER, preceding=history_length - 1, following=0
    )
    histories = timed.select(
        schema.USER_ID,
        EVENT_TIME,
        history=timed[schema.ITEM_ID].collect().over(latest),
        history_times=epoch_us(timed[schema.TIMESTAMP]).collect().over(latest),
        history_ranks=timed[RANK].collect().over(latest),
        event_count=ibis.least(timed[NUMBER], history_length),
        last_event_time=timed[schema.TIMESTAMP],
    )
    in_time = histories.order_by(schema.USER_ID, EVENT_TIME)
    _write(connection, in_time, out / "user_history.parquet")
    last_us = connection.execute(epoch_us(timed[schema.TIMESTAMP].max()))
    about = {"history_length": history_length, "covered_until_us": int(last_us)}
    write_json(out / ABOUT, about)

    # By name: columns that ride along may be called as ours are.
    items = connection.read_parquet(schema.table_path(snapshot, "items"))[
        [schema.ITEM_ID, schema.TITLE, schema.CATEGORIES]
    ]
    vector = connection.read_parquet(vectors / "vectors.parquet")[[schema.ITEM_ID, "vector"]]
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
    _write(connection, features.order_by(schema.ITEM_ID), out / "item_features.parquet")


def _write(connection: Any, table: ir.Table, path: Path) -> None:
    # Not Ibis's to_pyarrow_batches: in Ibis 12 it calls a method that DuckDB 2 has renamed.
    batches: pa.RecordBatchReader = connection.con.sql(connection.compile(table)).to_arrow_reader(
        _ROW_GROUP
    )
    with pq.ParquetWriter(path, batches.schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch, row_group_size=_ROW_GROUP)
