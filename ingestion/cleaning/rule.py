"""A rule that drops rows: the form that all of them have, so that every drop is accounted for."""

from collections.abc import Callable
from dataclasses import dataclass

import ibis.expr.types as ir

from ingestion.engines.base import Keep

REASON = "reason"  # the column that says why a row is dropped


@dataclass(frozen=True)
class Rule:
    """One reason, or a family of them, to drop rows of a table.

    Attributes:
        name: as `source.cleaning` calls it.
        drops: (usable rows so far, keep) → table (position int64, reason string) of those to drop,
            each position once. Ibis expressions alone, so that every engine gives the same rows:
            ties are decided by `position`, the row number in the source.
        counts_as_rejected: False for what the configuration asks for (k-core, retention, a
            quarantine), which `source.max_reject_fraction` does not count as bad data.
    """

    name: str
    drops: Callable[[ir.Table, Keep], ir.Table]
    counts_as_rejected: bool = True
