"""Source files to a snapshot: parquet tables of recommender.schema, a rejects table, a fingerprint.

    files ─ read ─▶ raw rows ─ mapping ─▶ checked ─ cleaning, rules ─▶ usable ─ sort ─▶ parquet
                                             └─────── dropped, with reasons ─▶ rejects

The tables are an engine's (DuckDB, Spark), on disk in a work folder inside the draft: a source may
be larger than memory. All between reading and writing is Ibis expressions, the same for both.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from ingestion import mapping
from ingestion.cleaning.near_duplicates import FIRST_ITEM_ID, merged
from ingestion.cleaning.rules import event_rules, item_rules, user_rules
from ingestion.cleaning.texts import clean_items
from ingestion.cleaning.times import out_of_order
from ingestion.engines.base import Engine
from ingestion.engines.open import open_engine
from ingestion.incremental.events import EventPartitions
from ingestion.privacy.erased import Erased, read_erased
from ingestion.privacy.raw_rows import protect
from ingestion.privacy.rules import expired_rejects, privacy_rules
from ingestion.reading.files import SourceFile, files_fingerprint
from ingestion.reading.landing import source_files
from ingestion.reading.raw import RawTable, count_swallowed
from ingestion.rejects import Outcome, check_rejects
from ingestion.sift import Sift, near_duplicates
from ingestion.snapshot import account, write_rejects, write_table, write_tables
from ingestion.sources import SourceConfig
from ingestion.validation.quarantine import quarantine_rules
from recommender import schema
from recommender.files import atomic_directory, write_json

Progress = Callable[[str], None]


def ingest(
    config: SourceConfig,
    out_dir: Path,
    progress: Progress | None = None,
    state: Path | None = None,
) -> dict[str, Any]:
    """Write the snapshot folder `out_dir` and return its snapshot.json.

    Of every table, rows kept, rejected and filtered add up to rows read. The first of several
    equal rows, by position, is the one that stays.

    Args:
        state: folder of what one ingestion tells the next: increments, erased users.

    Raises:
        IngestError: the source cannot be read, or too many of its rows cannot be used.
        PermissionError: `out_dir` cannot be written.
    """
    with _ingestion(config, out_dir, state, progress) as (run, draft):
        run.make_items()
        run.make_users()
        run.make_events()
        summary = run.write(draft)
        write_json(draft / "snapshot.json", summary)
    return summary


def ingest_items(
    config: SourceConfig, out_dir: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """The items alone, by the same rules: items.parquet in the folder `out_dir`, and what became
    of the rows read: {"read", "kept", "rejected"}, the last by reason.

    Raises:
        IngestError, PermissionError: as `ingest`.
    """
    with _ingestion(config, out_dir, None, progress) as (run, draft):
        run.make_items()
        return run.write_items(draft)


@contextmanager
def _ingestion(
    config: SourceConfig, out_dir: Path, state: Path | None, progress: Progress | None
) -> Iterator[tuple["_Run", Path]]:
    """One ingestion with its engine, and the draft that becomes `out_dir` when it is done."""
    with atomic_directory(out_dir) as draft:
        work = draft / "work"
        work.mkdir()
        engine = open_engine(config.engine, work)
        try:
            with EventPartitions(config, state, work) as partitions:
                tell = progress or (lambda message: None)
                yield _Run(engine, config, work, read_erased(state), partitions, tell), draft
        finally:
            engine.close()
        shutil.rmtree(work)


class _Run:
    """One ingestion: tables come into being in the order in which they refer to each other."""

    def __init__(
        self,
        engine: Engine,
        config: SourceConfig,
        work: Path,
        erased: Erased,
        partitions: EventPartitions,
        tell: Progress,
    ) -> None:
        self._engine, self._config, self._work, self._tell = engine, config, work, tell
        self._erased, self._partitions = erased, partitions
        self._files: dict[str, list[SourceFile]] = {}
        self._kept: dict[str, ir.Table] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._changed: dict[str, dict[str, int]] = {}
        self._merged: ir.Table | None = None

    def make_items(self) -> None:
        raw, rows = self._read("items")
        self._tell("clean items")
        checked = self._engine.keep("checked_items", mapping.items(raw, rows))
        cleaned, changed = clean_items(
            checked, self._config.items, self._config.cleaning, self._engine.keep
        )
        self._changed["items"] = _counts(changed)
        sift = Sift(self._engine, raw, rows, cleaned)
        sift.apply(item_rules(self._config))
        self._tell("find near duplicates")
        self._merge_near_duplicates(sift)
        self._finish("items", sift)
        self._kept["items"] = self._engine.keep("kept_items", sift.usable)

    def _merge_near_duplicates(self, sift: Sift) -> None:
        """Count items that say another one again; or drop them, their events being the other's."""
        config = self._config.cleaning.near_duplicates
        if config.action == "off":
            return
        found = merged(sift.usable, config, self._engine.keep)
        if config.action == "report":
            self._changed["items"]["near duplicate (reported only)"] = found.count().execute()
            return
        self._merged = found
        sift.apply([near_duplicates(found)])

    def _known_items(self) -> ir.Table:
        """(item_id, first_item_id): the ids that events may name, and whose events they are."""
        items = self._kept["items"]
        known = items.select(schema.ITEM_ID, **{FIRST_ITEM_ID: items[schema.ITEM_ID]})
        if self._merged is None:
            return known
        return known.union(self._merged.select(schema.ITEM_ID, FIRST_ITEM_ID))

    def make_users(self) -> None:
        if self._config.users is None:
            return  # the users that have events are the users
        raw, rows = self._read("users")
        checked = self._engine.keep("checked_users", mapping.users(raw, rows))
        sift = Sift(self._engine, raw, rows, checked)
        sift.apply(user_rules(self._config))
        self._finish("users", sift)
        self._kept["users"] = self._engine.keep("kept_users", sift.usable)

    def make_events(self) -> None:
        raw, rows = self._read("events")
        self._tell("check events")
        users = self._kept.get("users")
        mapped = mapping.events(self._engine, raw, rows, self._known_items(), users)
        checked = self._engine.keep("checked_events", mapped)
        sift = Sift(self._engine, raw, rows, checked)
        self._tell("apply rules to events")
        expired = expired_rejects(self._config, checked, self._engine.keep)
        if expired is not None:
            sift.forget(expired)
        sift.apply(privacy_rules(self._config))
        sift.apply(self._partitions.rules())
        rules = event_rules(self._config)
        # A partition is judged without the rows that it has twice, and before anything is judged
        # by all that its users did.
        sift.apply(rules[:1])
        sift.apply(quarantine_rules(self._config, self._ranges()))
        sift.apply(rules[1:])
        self._finish("events", sift)
        self._kept["events"] = sift.usable

    def _ranges(self) -> dict[str, list[tuple[int, int]]]:
        return {name: [part] for name, part in self._partitions.ranges.items()}

    def _read(self, table: str) -> tuple[RawTable, ir.Table]:
        """A raw table and its rows, without what must go no further."""
        self._tell(f"read {table}")
        source = self._config.tables()[table]
        files = source_files(table, source, self._work, self._engine.name)
        self._files[table] = files

        def read(several: list[SourceFile]) -> tuple[RawTable, ir.Table]:
            raw = self._engine.read(table, source, several)
            rows = self._engine.connection.table(raw.name)
            raw.swallowed = count_swallowed(rows)
            return protect(raw, rows, self._config.privacy, self._erased, self._engine.keep)

        if table == "events" and self._partitions.on:
            return self._partitions.read(self._engine, files, read)
        return read(files)

    def _finish(self, table: str, sift: Sift) -> None:
        self._outcomes[table] = sift.outcome()
        check_rejects(self._outcomes[table], self._config.max_reject_fraction)

    def write_items(self, draft: Path) -> dict[str, Any]:
        outcome = self._outcomes["items"]
        return {
            "read": outcome.raw.rows,
            "kept": write_table(self._engine, "items", self._kept["items"], draft),
            "rejected": outcome.reasons,
        }

    def write(self, draft: Path) -> dict[str, Any]:
        """The parquet files; the content of snapshot.json."""
        kept = write_tables(self._engine, self._kept, draft, self._tell)
        write_rejects(self._engine, self._outcomes, draft)
        files = files_fingerprint(self._files)
        return {
            "engine": self._engine.name,
            "source": json.loads(self._config.model_dump_json()) | {"files": files},
            **account(self._outcomes, kept, draft),
            "changed": self._changed,
            "out_of_order": out_of_order(schema.table_path(draft, "events")),
            **self._partitions.finish(self._engine, schema.table_path(draft, "events")),
        }


def _counts(changed: ir.Table) -> dict[str, int]:
    """A table (reason, rows) as it goes into snapshot.json."""
    found = changed.order_by("reason").execute()
    return {reason: int(rows) for reason, rows in zip(found["reason"], found["rows"], strict=True)}
