"""Source files to a snapshot: parquet tables of recommender.schema, a rejects table, a fingerprint.

Reading, checking and sorting are DuckDB's, in a database file inside the draft folder, so a
source may be larger than memory; only the items' titles and texts pass through Python.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion import mapping
from ingestion.mapping import REASON
from ingestion.reading.duckdb_files import read_raw, run_sql
from ingestion.reading.raw import RAW_MALFORMED, RAW_POSITION, RawTable
from ingestion.rejects import Rejected, check_rejects
from ingestion.sources import ItemsSource, SourceConfig, source_fingerprint
from recommender import schema
from recommender.files import atomic_directory, fingerprint, sha256_file, write_json

Progress = Callable[[str], None]
_ROW_GROUP = 131_072


@ibis.udf.scalar.builtin
def to_json(row) -> str:  # type: ignore[no-untyped-def, empty-body]  # of any struct type
    """A struct as a JSON object."""


def ingest(config: SourceConfig, out_dir: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Write the snapshot folder `out_dir` and return its snapshot.json.

    Of every table, rows kept and rows rejected add up to rows read. The first of several equal
    rows, by position, is the one that stays.

    Raises:
        IngestError: the source cannot be read, or too many of its rows cannot be used.
        PermissionError: `out_dir` cannot be written.
    """
    tell = progress or (lambda message: None)
    with atomic_directory(out_dir) as draft:
        database = draft / "work.duckdb"
        connection = ibis.duckdb.connect(database, temp_directory=str(draft / "work.tmp"))
        run_sql(connection, "SET TimeZone = 'UTC'")
        try:
            outcome = _tables(connection, config, tell)
            for table in schema.TABLES:
                tell(f"write {table}")
                _write(connection, table, schema.table_path(draft, table))
            _write_rejects(connection, outcome, schema.table_path(draft, "rejects"))
        finally:
            connection.disconnect()
        for leftover in draft.glob("work.duckdb*"):
            leftover.unlink()
        if (draft / "work.tmp").is_dir():
            (draft / "work.tmp").rmdir()
        summary = _summary(config, outcome, draft)
        write_json(draft / "snapshot.json", summary)
    return summary


def _tables(connection: Any, config: SourceConfig, tell: Progress) -> dict[str, Rejected]:
    """Make `kept_<table>` for events, items and users; what was rejected of the read ones."""
    outcome: dict[str, Rejected] = {}
    for table, source in config.tables().items():
        tell(f"read {table}")
        raw = read_raw(connection, table, source)
        rows = connection.table(raw.name)
        if table == "items":
            connection.create_table("checked_items", mapping.items(raw, rows))
            _clean_items(connection, config.items)
            key = [schema.ITEM_ID]
        elif table == "users":
            connection.create_table("checked_users", mapping.users(raw, rows))
            key = [schema.USER_ID]
        else:
            users = connection.table("kept_users") if config.users else None
            events = mapping.events(raw, rows, connection.table("kept_items"), users)
            connection.create_table("checked_events", events)
            key = [name for name in events.columns if name not in (schema.POSITION, REASON)]
        outcome[table] = _keep(connection, raw, key, config.max_reject_fraction)
    if config.users is None:
        # The users that have events are the users.
        users = connection.table("kept_events").select(schema.USER_ID).distinct()
        connection.create_table("kept_users", users)
    return outcome


def _clean_items(connection: Any, source: ItemsSource) -> None:
    """Put cleaned titles and texts, and the reasons that come of them, into checked_items."""
    checked = connection.table("checked_items")
    columns = [schema.POSITION, schema.TITLE, *mapping.template_columns(source.text)]
    usable = checked.filter(checked[REASON].isnull()).select(*dict.fromkeys(columns))
    cleaned_schema = pa.schema(
        [(schema.POSITION, pa.int64())]
        + [(name, pa.string()) for name in (schema.TITLE, schema.TEXT, REASON)]
    )
    connection.create_table("cleaned_items", schema=ibis.Schema.from_pyarrow(cleaned_schema))
    cleaned = mapping.clean_items(usable.to_pyarrow().to_pylist(), source)
    connection.insert("cleaned_items", pa.Table.from_pylist(cleaned, cleaned_schema))
    run_sql(
        connection,
        f"UPDATE checked_items AS i SET {schema.TITLE} = c.{schema.TITLE}, "
        f"{schema.TEXT} = c.{schema.TEXT}, {REASON} = c.{REASON} "
        f"FROM cleaned_items AS c WHERE i.{schema.POSITION} = c.{schema.POSITION}",
    )


def _keep(connection: Any, raw: RawTable, key: list[str], limit: float) -> Rejected:
    """Split checked_<table> into kept_<table> and rejected_<table>.

    Raises:
        IngestError: more than `limit` of the rows are rejected, or all.
    """
    checked = connection.table(f"checked_{raw.table}")
    usable = checked.filter(checked[REASON].isnull())
    repeated = connection.create_table(
        f"repeated_{raw.table}", mapping.duplicates(usable, key), temp=True
    )
    kept = usable.filter(usable[schema.POSITION].notin(repeated[schema.POSITION])).drop(REASON)
    connection.create_table(f"kept_{raw.table}", kept)
    repetition = "exact duplicate" if raw.table == "events" else f"duplicate {key[0]}"
    rejected = checked.mutate(
        reason=ibis.cases(
            (checked[schema.POSITION].isin(repeated[schema.POSITION]), repetition),
            else_=checked[REASON],
        )
    )
    rejected = rejected.filter(rejected[REASON].notnull()).select(schema.POSITION, REASON)
    rows = connection.table(raw.name)
    as_read = to_json(ibis.struct({name: rows[name] for name in raw.columns}))
    as_line = to_json(ibis.struct({"line": rows[raw.columns[0]].cast("string")}))
    split = rows[RAW_MALFORMED].isnull() | ~rows[RAW_MALFORMED].startswith("malformed line")
    rows = rows.select(
        **{schema.POSITION: rows[RAW_POSITION], "row": split.ifelse(as_read, as_line)}
    )
    connection.create_table(f"rejected_{raw.table}", rejected.join(rows, schema.POSITION))
    outcome = Rejected(raw, connection.table(f"kept_{raw.table}").count().execute())
    outcome.count(connection.table(f"rejected_{raw.table}"))
    check_rejects(outcome, limit)
    return outcome


def _write(connection: Any, table: str, path: Path) -> None:
    """kept_<table>, sorted, with the types of recommender.schema."""
    kept: ir.Table = connection.table(f"kept_{table}")
    if table == "events":
        kept = kept.order_by(schema.USER_ID, schema.TIMESTAMP, schema.POSITION)
    elif schema.POSITION in kept.columns:
        kept = kept.order_by(schema.POSITION).drop(schema.POSITION)
    else:
        kept = kept.order_by(schema.USER_ID)
    batches = _reader(connection, kept)
    ours = schema.TABLES[table]
    riders = [field for field in batches.schema if field.name not in ours.names]
    _stream(batches, pa.schema([*ours, *riders]), path)


def _write_rejects(connection: Any, outcome: dict[str, Rejected], path: Path) -> None:
    parts = []
    for table in outcome:
        rejected = connection.table(f"rejected_{table}")
        parts.append(rejected.mutate(table=ibis.literal(table)).select(*schema.REJECTS.names))
    everything = ibis.union(*parts) if len(parts) > 1 else parts[0]
    ordered = everything.order_by("table", schema.POSITION)
    _stream(_reader(connection, ordered), schema.REJECTS, path)


def _reader(connection: Any, table: ir.Table) -> pa.RecordBatchReader:
    """As Ibis's to_pyarrow_batches, which in Ibis 12 calls a method that DuckDB 2 has renamed."""
    return connection.con.sql(connection.compile(table)).to_arrow_reader(_ROW_GROUP)


def _stream(batches: pa.RecordBatchReader, target: pa.Schema, path: Path) -> None:
    """Write batches as parquet; equal rows give equal bytes, whatever the batches' sizes."""
    with pq.ParquetWriter(path, target, compression="zstd") as writer:
        pending: list[pa.RecordBatch] = []
        rows = 0
        for batch in batches:
            while batch.num_rows:
                part = batch.slice(0, _ROW_GROUP - rows)
                pending.append(part)
                rows += part.num_rows
                batch = batch.slice(part.num_rows)
                if rows == _ROW_GROUP:
                    writer.write_table(_typed(pending, batches.schema, target))
                    pending, rows = [], 0
        if pending:
            writer.write_table(_typed(pending, batches.schema, target))


def _typed(batches: list[pa.RecordBatch], source: pa.Schema, target: pa.Schema) -> pa.Table:
    return pa.Table.from_batches(batches, source).select(target.names).cast(target)


def _summary(config: SourceConfig, outcome: dict[str, Rejected], folder: Path) -> dict[str, Any]:
    kept = {
        table: pq.read_metadata(schema.table_path(folder, table)).num_rows
        for table in schema.TABLES
    }
    for table, rejected in outcome.items():
        lost = rejected.raw.rows - kept[table] - rejected.total
        assert lost == 0, f"{table}: {lost} rows are neither kept nor rejected"
    files = {table: schema.table_path(folder, table) for table in schema.TABLES}
    return {
        "fingerprint": fingerprint({table: sha256_file(path) for table, path in files.items()}),
        "source": json.loads(config.model_dump_json()) | {"files": source_fingerprint(config)},
        "read": {table: rejected.raw.rows for table, rejected in outcome.items()},
        "kept": kept,
        "rejected": {table: dict(rejected.reasons) for table, rejected in outcome.items()},
    }
