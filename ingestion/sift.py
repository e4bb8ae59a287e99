"""A table's rows on their way into a snapshot: which can be used, which were dropped, and why."""

import ibis
import ibis.expr.types as ir

from ingestion.cleaning.near_duplicates import FIRST_ITEM_ID
from ingestion.cleaning.rule import REASON, Rule
from ingestion.engines.base import Engine, Keep
from ingestion.filters import FILTERED
from ingestion.privacy.raw_rows import ERASED
from ingestion.privacy.rules import FORGETTING
from ingestion.reading.raw import (
    MALFORMED,
    RAW_FILE,
    RAW_LINE,
    RAW_MALFORMED,
    RAW_POSITION,
    RawTable,
)
from ingestion.rejects import Outcome
from recommender import schema

_NEAR = "near duplicate"  # what is counted; the rejects say of which item
_NOTHING = "{}"  # a reject's row that is not to be kept


class Sift:
    """Rules applied one after the other; every dropped row is remembered by its position.

    Attributes:
        usable: rows that nothing has dropped so far.
    """

    def __init__(self, engine: Engine, raw: RawTable, rows: ir.Table, checked: ir.Table) -> None:
        """
        Args:
            rows: of the raw table, as they go into the rejects.
            checked: as mapped, computed, with a reason where a row cannot be used.
        """
        self._engine, self._raw, self._rows = engine, raw, rows
        self._excused: set[str] = {ERASED}
        self._columns = [name for name in checked.columns if name != REASON]
        self.usable = checked.filter(checked[REASON].isnull()).drop(REASON)
        wrong = checked.filter(checked[REASON].notnull()).select(schema.POSITION, REASON)
        forgotten = (wrong[REASON] == ERASED).fill_null(False)
        self._dropped = [wrong.mutate(forgotten=forgotten)]

    def forget(self, positions: ir.Table) -> None:
        """Keep no content of rows that could not be used in the first place.

        Args:
            positions: of theirs.
        """
        known = positions.select(__old=positions[schema.POSITION])
        wrong = self._dropped[0]
        wrong = wrong.left_join(known, wrong[schema.POSITION] == known["__old"])
        forgotten = wrong["forgotten"] | wrong["__old"].notnull()
        self._dropped[0] = wrong.select(schema.POSITION, REASON, forgotten=forgotten)

    def apply(self, rules: list[Rule]) -> None:
        """Drop what the rules say, each seeing what those before it left."""
        for rule in rules:
            name = f"dropped_{self._raw.table}_{len(self._dropped)}"
            drops = rule.drops(self.usable, self._engine.keep)
            dropped = self._engine.keep(name, drops.select(schema.POSITION, REASON))
            if not dropped.count().execute():
                continue
            if not rule.counts_as_rejected:
                kinds = dropped.select(kind=_kind(dropped)).distinct().execute()
                self._excused |= set(kinds["kind"])
            self.usable = self.usable.anti_join(dropped, schema.POSITION)
            forgotten = ibis.literal(rule.name in FORGETTING)
            self._dropped.append(dropped.mutate(forgotten=forgotten))

    def outcome(self) -> Outcome:
        """Counts, and `rejected_<table>` with what the dropped rows were."""
        table = self._raw.table
        dropped = self._engine.keep(f"dropped_{table}", _union(self._dropped))
        filtered = dropped[REASON].startswith(FILTERED)
        rejected = self._engine.keep(
            f"rejected_{table}", self._described(dropped.filter(~filtered))
        )
        kinds = dropped.select(kind=_kind(dropped))
        counts = kinds.group_by("kind").agg(rows=kinds.count()).execute()
        pairs = zip(counts["kind"], counts["rows"], strict=True)
        ordered = {why: int(rows) for why, rows in sorted(pairs, key=lambda p: (-p[1], p[0]))}
        return Outcome(
            self._raw,
            rejected,
            {why: rows for why, rows in ordered.items() if not why.startswith(FILTERED)},
            {
                why.removeprefix(FILTERED): rows
                for why, rows in ordered.items()
                if why.startswith(FILTERED)
            },
            self._excused,
        )

    def _described(self, dropped: ir.Table) -> ir.Table:
        """Dropped rows as recommender.schema.REJECTS says it.

        Joined first, so that JSON is made of the few.
        """
        raw, rows = self._raw, self._rows
        # Names that no file's columns have.
        marked = dropped.select(
            __dropped=dropped[schema.POSITION],
            __reason=dropped[REASON],
            __forgotten=dropped["forgotten"],
        )
        files = ibis.memtable(
            {
                "__index": list(range(len(raw.files))),
                "__name": [part.file.name for part in raw.files],
                "__offset": [part.first_line - part.start for part in raw.files],
            },
            schema={"__index": "int32", "__name": "string", "__offset": "int64"},
        )
        joined = rows.inner_join(marked, rows[RAW_POSITION] == marked["__dropped"])
        joined = joined.inner_join(files, joined[RAW_FILE] == files["__index"])
        as_read = self._engine.as_json((name, joined[name]) for name in raw.columns)
        as_line = self._engine.as_json([("line", joined[RAW_LINE])])
        described = {
            "table": ibis.literal(raw.table),
            schema.POSITION: joined[RAW_POSITION],
            REASON: joined["__reason"],
            "row": ibis.cases(
                (joined["__forgotten"], ibis.literal(_NOTHING)),
                (joined[RAW_MALFORMED].startswith(MALFORMED), as_line),
                else_=as_read,
            ),
            "file": joined["__name"],
            "line": joined[RAW_POSITION] + joined["__offset"],
        }
        return joined.select(**{name: described[name] for name in schema.REJECTS.names})


def near_duplicates(merged: ir.Table) -> Rule:
    """Drops the items of `merged` (item_id, first_item_id)."""

    def drops(usable: ir.Table, keep: Keep) -> ir.Table:
        again = usable.select(schema.ITEM_ID, schema.POSITION).inner_join(merged, schema.ITEM_ID)
        said = ibis.literal(f"{_NEAR} of ") + again[FIRST_ITEM_ID]
        return again.select(schema.POSITION, **{REASON: said})

    return Rule("near_duplicates", drops, counts_as_rejected=False)


def _kind(dropped: ir.Table) -> ir.Value:
    """A row's reason as it is counted."""
    return dropped[REASON].startswith(_NEAR).ifelse(ibis.literal(_NEAR), dropped[REASON])


def _union(parts: list[ir.Table]) -> ir.Table:
    return ibis.union(*parts) if len(parts) > 1 else parts[0]
