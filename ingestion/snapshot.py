"""What came of an ingestion, written: parquet files, rejects, and the account of every row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.engines.base import Engine
from ingestion.rejects import Outcome
from recommender import schema
from recommender.files import fingerprint, sha256_file

_ORDER = {
    "events": [schema.USER_ID, schema.TIMESTAMP, schema.POSITION],
    "items": [schema.POSITION],
    "users": [schema.POSITION],
}


def write_tables(
    engine: Engine, kept: dict[str, ir.Table], folder: Path, tell: Callable[[str], None]
) -> dict[str, int]:
    """The kept rows of events, items and users; how many there are.

    Users without a table of their own are read off the events' file, and so come last.
    """
    written = {}
    for table in schema.TABLES:
        tell(f"write {table}")
        if table == "users" and "users" not in kept:
            written[table] = _write_users(folder)
            continue
        written[table] = write_table(engine, table, kept[table], folder)
    return written


def write_table(engine: Engine, table: str, rows: ir.Table, folder: Path) -> int:
    """The kept rows of one table, in its order; how many there are."""
    ordered = rows.order_by(*(rows[name] for name in _ORDER[table]))
    return engine.write(ordered, schema.table_path(folder, table), _with_riders(table, ordered))


def write_rejects(engine: Engine, outcomes: dict[str, Outcome], folder: Path) -> None:
    """The dropped rows of all tables, by table and position."""
    rejects = [outcome.rejected for outcome in outcomes.values()]
    everything = ibis.union(*rejects) if len(rejects) > 1 else rejects[0]
    ordered = everything.order_by("table", schema.POSITION)
    engine.write(ordered, schema.table_path(folder, "rejects"), schema.REJECTS)


def account(outcomes: dict[str, Outcome], kept: dict[str, int], folder: Path) -> dict[str, Any]:
    """Of snapshot.json: the fingerprint of the tables, and what became of every row read.

    Raises:
        AssertionError: rows kept, rejected and filtered are not the rows read.
    """
    for table, outcome in outcomes.items():
        lost = outcome.kept - kept[table]
        assert lost == 0, f"{table}: {lost} rows are neither kept nor rejected nor filtered"
    hashes = {table: sha256_file(schema.table_path(folder, table)) for table in schema.TABLES}
    return {
        "fingerprint": fingerprint(hashes),
        "read": {table: outcome.raw.rows for table, outcome in outcomes.items()},
        # Where files end: a line that is malformed there may be a file that was cut.
        "last_rows": {table: outcome.raw.last_rows() for table, outcome in outcomes.items()},
        "kept": kept,
        "rejected": {table: outcome.reasons for table, outcome in outcomes.items()},
        "filtered": {table: outcome.filtered for table, outcome in outcomes.items()},
    }


def _with_riders(table: str, rows: ir.Table) -> pa.Schema:
    """The columns of recommender.schema, then those that ride along."""
    ours = schema.TABLES[table]
    left_out = set() if table == "events" else {schema.POSITION}
    riders = [
        field for field in rows.schema().to_pyarrow() if field.name not in {*ours.names, *left_out}
    ]
    return pa.schema([*ours, *riders])


def _write_users(draft: Path) -> int:
    """Users of the events, which are sorted by them."""
    last: pa.Scalar | None = None
    rows = 0
    with (
        pq.ParquetFile(schema.table_path(draft, "events")) as events,
        pq.ParquetWriter(schema.table_path(draft, "users"), schema.USERS, compression="zstd") as to,
    ):
        for group in range(events.num_row_groups):
            users = events.read_row_group(group, [schema.USER_ID])[schema.USER_ID].unique()
            if last is not None and len(users) and users[0] == last:
                users = users[1:]
            if len(users):
                to.write_table(pa.table([users], schema.USERS))
                last, rows = users[-1], rows + len(users)
    return rows
