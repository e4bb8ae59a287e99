"""The events of a partitioned source: what is new is read, everything else is there as parquet.

A staged partition has its rows as they were read (without what `source.privacy` takes from them):
whatever depends on the rest of the data, or on settings of the mapping and cleaning, is worked out
anew each time. So a snapshot is the same however its partitions came in.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.engines.base import Engine
from ingestion.errors import IngestError
from ingestion.incremental.ledger import Ledger
from ingestion.incremental.partitions import partition_fingerprint, partitions
from ingestion.reading.files import SourceFile
from ingestion.reading.raw import (
    RAW_FILE,
    RAW_LINE,
    RAW_MALFORMED,
    RAW_POSITION,
    RawTable,
    RowsOf,
)
from ingestion.sources import SourceConfig
from recommender.files import fingerprint

_OURS = (RAW_POSITION, RAW_MALFORMED, RAW_LINE, RAW_FILE)
_PARTITION, _START, _FIRST_FILE = "__partition", "__start", "__first_file"
# Settings of the events that do not change what is staged.
_LATER = {"time_unit", "time_format", "event_type", "value", "event_weights", "filters", "path"}

Read = Callable[[list[SourceFile]], tuple[RawTable, ir.Table]]


@dataclass(frozen=True)
class Increments:
    """All partitions as one raw table.

    Attributes:
        rows: with positions over all partitions, in the order of their names.
        ranges: each partition's positions: from, up to and without.
    """

    raw: RawTable
    rows: ir.Table
    ranges: Mapping[str, tuple[int, int]]


def open_ledger(config: SourceConfig, state: Path, key_id: str | None) -> Ledger | None:
    """The ledger of a partitioned source; None where every run reads everything.

    Args:
        state: folder of the source's state.
        key_id: of the key of pseudonyms.

    Raises:
        IngestError: as `Ledger`.
    """
    if config.incremental.partition is None:
        return None
    return Ledger(state, reading_fingerprint(config), key_id)


def reading_fingerprint(config: SourceConfig) -> str:
    """Of the settings on which staged rows depend."""
    return fingerprint(
        {
            "events": config.events.model_dump(mode="json", exclude=_LATER),
            "partition": config.incremental.partition,
            "drop_columns": sorted(config.privacy.drop_columns.get("events", [])),
            "engine": config.engine.name,
        }
    )


def read_increments(
    engine: Engine,
    config: SourceConfig,
    files: Sequence[SourceFile],
    ledger: Ledger,
    work: Path,
    read: Read,
) -> Increments:
    """Stage what is new or has changed, and give everything as one table.

    Args:
        files: all that there are.
        work: a folder for this run.
        read: some files as a raw table and its rows, without what privacy takes away.

    Raises:
        IngestError: a file of no partition; columns that differ in case; a partition that is gone,
            where that is an error; what `read` raises.
    """
    found = partitions(files, config.incremental)
    staged = ledger.gone(found, config.incremental.removed)
    for name, several in found.items():
        staged[name] = ledger.staged(
            name,
            partition_fingerprint(several),
            functools.partial(_stage, engine, name, several, read),
        )
    names = sorted(staged)
    raw = RawTable("events", config.events, "raw_events", [])
    ranges, offsets = {}, []
    for name in names:
        entry = ledger.entries[name]
        offsets.append((name, raw.rows, len(raw.files)))
        raw.files += [_rows_of(each, raw.rows) for each in entry.notes["files"]]
        raw.columns += [each for each in entry.notes["columns"] if each not in raw.columns]
        raw.swallowed += entry.notes.get("swallowed", 0)
        ranges[name] = (raw.rows, raw.rows + entry.rows)
        raw.rows += entry.rows
    _check_cases(raw.columns)
    rows = _together(engine, [staged[name] for name in names], raw.columns, work)
    return Increments(raw, _placed(engine, rows, offsets, work), ranges)


def _stage(
    engine: Engine, name: str, files: list[SourceFile], read: Read, path: Path
) -> dict[str, Any]:
    """Write a partition's rows; what is to be known of them."""
    raw, rows = read(files)
    columns = rows.select(*_OURS, *raw.columns, **{_PARTITION: ibis.literal(name)})
    engine.write(columns, path, columns.schema().to_pyarrow())
    parts = [
        {
            "name": part.file.name,
            "format": part.file.format,
            "start": part.start,
            "first_line": part.first_line,
        }
        for part in raw.files
    ]
    return {"columns": raw.columns, "files": parts, "swallowed": raw.swallowed}


def _rows_of(noted: Mapping[str, Any], start: int) -> RowsOf:
    file = SourceFile(noted["name"], noted["name"], noted["format"], "")
    return RowsOf(file, start + noted["start"], noted["first_line"])


def _check_cases(columns: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in columns:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise IngestError(
                f"events: one partition has a column '{other}' and another one '{name}', which "
                "differ in case only; rename it in either, or leave both out by "
                "source.privacy.drop_columns"
            )


def _together(engine: Engine, staged: Sequence[Path], columns: Sequence[str], work: Path) -> Any:
    """The rows of all files; a column that one lacks is null there, one of two types is text.

    Files of one schema are read at once, as a folder of links, which every engine can.
    """
    groups: dict[str, list[Path]] = {}
    for path in staged:
        groups.setdefault(str(pq.read_schema(path)), []).append(path)
    tables = []
    for number, paths in enumerate(groups.values()):
        folder = work / f"increments-{number}"
        folder.mkdir()
        for path in paths:
            (folder / path.name).symlink_to(path.absolute())
        tables.append(engine.connection.read_parquet(f"{folder}/*.parquet"))
    if len(tables) == 1:
        return tables[0]
    types: dict[str, set[str]] = {}
    for table in tables:
        for name, kind in table.schema().items():
            types.setdefault(name, set()).add(str(kind))
    aligned = []
    for table in tables:
        found: dict[str, ir.Value] = {}
        for name in (*_OURS, _PARTITION, *columns):
            kind = types[name].copy().pop() if len(types[name]) == 1 else "string"
            found[name] = table[name].cast(kind) if name in table.columns else ibis.null(kind)
        aligned.append(table.select(**found))
    return ibis.union(*aligned)


def _placed(
    engine: Engine, rows: ir.Table, offsets: Sequence[tuple[str, int, int]], work: Path
) -> ir.Table:
    """Rows numbered over all partitions.

    Args:
        offsets: of a partition its name, its first row's position, its first file's index.
    """
    path = work / "offsets.parquet"
    names, starts, files = zip(*offsets, strict=True)
    table = {_PARTITION: names, _START: pa.array(starts, pa.int64())}
    pq.write_table(pa.table({**table, _FIRST_FILE: pa.array(files, pa.int32())}), path)
    joined = rows.inner_join(engine.connection.read_parquet(path), _PARTITION)
    moved = {
        RAW_POSITION: joined[RAW_POSITION] + joined[_START],
        RAW_FILE: (joined[RAW_FILE] + joined[_FIRST_FILE]).cast("int32"),
    }
    return joined.mutate(**moved).drop(_PARTITION, _START, _FIRST_FILE)
