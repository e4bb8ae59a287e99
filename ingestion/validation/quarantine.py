"""Partitions of the events that fail a check are left out, and the run goes on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ibis
import ibis.expr.types as ir

from ingestion.cleaning.rule import Rule
from ingestion.engines.base import Keep
from ingestion.errors import IngestError
from ingestion.sources import SourceConfig
from ingestion.validation.quarantine_settings import QuarantineConfig
from recommender import schema

QUARANTINED = "quarantined"  # what every reason starts with
_CHECKSUM = 2_147_483_629  # a prime below 2**31: sums of remainders stay far below 2**63
_PART = "__partition"
_FEW = 10  # events of a partition, below which it is like another one by chance

Ranges = Sequence[tuple[int, int]]  # positions from, up to and without


def quarantine_rules(
    source: SourceConfig, ranges: Mapping[str, Ranges] | None = None
) -> list[Rule]:
    """The rule of `source.quarantine`; none where it is off.

    Args:
        ranges: the positions of every incremental partition's rows; needed for `by: partition`.
    """
    config = source.quarantine
    if config.by == "off":
        return []
    if config.by == "partition" and not ranges:
        raise IngestError(
            "source.quarantine.by is 'partition', but the source has none: set "
            "source.incremental.partition, or use by: day"
        )

    def drops(usable: ir.Table, keep: Keep) -> ir.Table:
        part = _partition(usable, ranges if config.by == "partition" else None)
        usable = usable.mutate(**{_PART: part})
        measured = keep("quarantine_partitions", _measured(usable)).to_pyarrow().to_pylist()
        reasons = failing(measured, config)
        if len(reasons) > config.max_share * len(measured):
            raise IngestError(_too_many(reasons, len(measured), config))
        rows = usable.filter(usable[_PART].isin(list(reasons) or [""]))
        named = ibis.cases(
            *((rows[_PART] == name, reason) for name, reason in reasons.items()),
            *([] if reasons else [(ibis.literal(False), "")]),
        )
        return rows.select(**{schema.POSITION: rows[schema.POSITION], "reason": named})

    return [Rule("quarantine", drops, counts_as_rejected=False)]


def quarantined(reasons: Iterable[str]) -> list[str]:
    """The partitions that are named in reasons of rejects."""
    ours = (reason for reason in reasons if reason.startswith(f"{QUARANTINED} "))
    return [reason.removeprefix(f"{QUARANTINED} ").split(": ")[0] for reason in ours]


def _partition(usable: ir.Table, ranges: Mapping[str, Ranges] | None) -> ir.Value:
    if ranges is None:
        return usable[schema.TIMESTAMP].strftime("%Y-%m-%d")
    position = usable[schema.POSITION]
    branches = [
        ((position >= start) & (position < end), name)
        for name, parts in ranges.items()
        for start, end in parts
    ]
    return ibis.cases(*branches)


def _measured(usable: ir.Table) -> ir.Table:
    """A row a partition: events, users, and a sum of hashes that two copies share."""
    key = ibis.struct(
        {name: usable[name] for name in (schema.USER_ID, schema.ITEM_ID, schema.EVENT_TYPE)}
    )
    hashed = usable.mutate(hashed=key.hash() % _CHECKSUM)
    return hashed.group_by(_PART).agg(
        events=hashed.count(),
        users=hashed[schema.USER_ID].nunique(),
        checksum=hashed.hashed.cast("int64").sum(),
    )


def failing(measured: list[dict[str, Any]], config: QuarantineConfig) -> dict[str, str]:
    """The partitions that fail, each with its reason, in order.

    Args:
        measured: a dict a partition: its name, events, users, checksum.
    """
    measured = sorted(measured, key=lambda row: str(row[_PART]))
    sizes = sorted(row["events"] for row in measured)
    median = (sizes[(len(sizes) - 1) // 2] + sizes[len(sizes) // 2]) / 2 if sizes else 0
    seen: dict[tuple[int, int], str] = {}
    reasons = {}
    for row in measured:
        name, events = row[_PART], row["events"]
        first = seen.setdefault((events, row["checksum"]), name)
        ratio = events / median
        checks = [
            (
                config.copies and first != name and events >= _FEW,
                f"the same users and items as {first}",
            ),
            (_below(events, config.min_events), f"{events:,} events, not {config.min_events}"),
            (_above(events, config.max_events), f"{events:,} events, over {config.max_events}"),
            (_below(ratio, config.min_of_median), f"{events:,} events, {ratio:.3g} of the median"),
            (_above(ratio, config.max_of_median), f"{events:,} events, {ratio:.3g} of the median"),
            (_below(row["users"], config.min_users), f"{row['users']:,} users"),
        ]
        if said := [what for fails, what in checks if fails]:
            reasons[name] = f"{QUARANTINED} {name}: {', '.join(said)}"
    return reasons


def _below(number: float, limit: float | None) -> bool:
    return limit is not None and number < limit


def _above(number: float, limit: float | None) -> bool:
    return limit is not None and number > limit


def _too_many(reasons: Mapping[str, str], partitions: int, config: QuarantineConfig) -> str:
    shown = "\n".join(f"  {reason}" for reason in list(reasons.values())[:5])
    return (
        f"events: {len(reasons)} of {partitions} partitions fail "
        f"(source.quarantine.max_share allows {config.max_share:.0%})\n{shown}\n"
        "correct the source, or the limits of source.quarantine"
    )
