"""Measures of a snapshot by itself: days twice, a thin last day, cut lines, what was left out."""

from collections.abc import Iterable, Mapping
from typing import Any

from ingestion.validation.days import last_day_share, repeated_days
from ingestion.validation.drift import Measure
from ingestion.validation.gx_ibis.masking import masked
from ingestion.validation.quarantine import QUARANTINED
from ingestion.validation.settings import DriftConfig

_MALFORMED = "malformed line"  # what ingestion's reasons for it start with
_DUPLICATE = "exact duplicate"
_MAX_DUPLICATES = 0.02  # of the rows read: more is a file or a day that was delivered twice


def own_measures(
    profile: Mapping[str, Any],
    summary: Mapping[str, Any],
    cut: Iterable[Mapping[str, Any]],
    config: DriftConfig,
) -> list[Measure]:
    """What needs no earlier snapshot.

    Args:
        summary: snapshot.json, or nothing.
        cut: the malformed rejects with which files end: table, file, row.
    """
    days = profile.get("days", {})
    pairs = repeated_days(days)
    shown = ", ".join(f"{second} is a copy of {first}" for first, second in pairs[:3])
    share, said = last_day_share(days)
    low = config.min_last_day_share
    return [
        Measure("events.days.repeated", len(pairs), None, 0, shown or "no two days are the same"),
        Measure("events.days.last", share, low, None, said, "warning"),
        *_rejects(summary, cut),
    ]


def _rejects(summary: Mapping[str, Any], cut: Iterable[Mapping[str, Any]]) -> Iterable[Measure]:
    read = summary.get("read", {})
    lines = [
        f"{row['table']}: the last line of '{row['file']}' is cut ({masked(row['row'])[:60]})"
        for row in cut
    ]
    more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
    yield Measure(
        "source.complete",
        len(lines),
        None,
        0,
        "; ".join(lines[:3]) + more or "the last line of every file is whole",
    )
    reasons = summary.get("rejected", {}).get("events", {})
    if rows := read.get("events"):
        twice = reasons.get(_DUPLICATE, 0)
        yield Measure(
            "source.events.duplicates",
            twice / rows,
            None,
            _MAX_DUPLICATES,
            f"{twice:,} of {rows:,} rows are exact duplicates, and dropped",
            "warning",
            "is a file or a day there twice?",
        )
    left = [reason for reason in reasons if reason.startswith(QUARANTINED)]
    yield Measure(
        "source.quarantine",
        len(left),
        None,
        0,
        "; ".join(left) or "nothing is quarantined",
        "warning",
    )
