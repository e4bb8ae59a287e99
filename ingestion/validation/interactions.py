"""Expectations of how people and items meet, with the metrics that they need, on Ibis.

events per user: mean, a quantile, the busiest. Item popularity: Gini coefficient of events over
items that have some (0: all alike, 1: one item has all). Unknown items: share of the events read
whose item is in no items table. Session gaps: time from the last event of a user's session to the
first of the next one, where a session ends with a pause.
"""

import math
from typing import Any, ClassVar

import ibis
import ibis.expr.types as ir

import ingestion.validation.references  # noqa: F401  # registers its metrics
from ingestion.validation.gx_ibis.expectations import MeasureBetween
from ingestion.validation.gx_ibis.registry import COLUMN_KEYS, TABLE_KEYS, column_of, value
from recommender import schema

_DAY_S = 86_400


def events_per_user(table: ir.Table, quantile: float) -> dict[str, float]:
    """Mean, quantile and maximum of the number of events over users."""
    users = table.group_by(column_of(table, schema.USER_ID)).agg(events=table.count())
    row = users.aggregate(
        mean=users.events.mean(), quantile=users.events.quantile(quantile), max=users.events.max()
    )
    (found,) = row.to_pyarrow().to_pylist()
    return {name: _number(part) for name, part in found.items()}


def popularity(table: ir.Table) -> list[tuple[int, int]]:
    """(events, items that have so many), from few events to many."""
    items = table.group_by(column_of(table, schema.ITEM_ID)).agg(events=table.count())
    counts = items.group_by("events").agg(items=items.count()).order_by("events")
    return [(row["events"], row["items"]) for row in counts.to_pyarrow().to_pylist()]


def gini(counts: list[tuple[int, int]]) -> float | None:
    """Gini coefficient of (value, how many have it), ascending; None of nothing.

    G = 2 Σ i·x_i / (n Σ x_i) - (n + 1) / n over sorted x_1 ≤ … ≤ x_n: Dixon et al. 1987,
    "Bootstrapping the Gini coefficient of inequality", without its correction for small n.
    """
    total = weighted = ranked = 0
    for events, items in counts:
        weighted += events * (items * ranked + items * (items + 1) // 2)
        total += events * items
        ranked += items
    return 2 * weighted / (ranked * total) - (ranked + 1) / ranked if total else None


def session_gaps(
    table: ir.Table, pause_minutes: float, long_gap_days: float, max_events: int
) -> dict[str, float | None]:
    """Median gap in days, share of long ones and their number; of a share of users if many."""
    events = table.select(schema.USER_ID, schema.TIMESTAMP)
    rows = int(events.count().to_pyarrow().as_py())
    one_in = math.ceil(rows / max_events) or 1
    if one_in > 1:
        events = events.filter(events[schema.USER_ID].hash() % one_in == 0)
    events = events.select(user=schema.USER_ID, at=events[schema.TIMESTAMP].epoch_seconds())
    before = events.at.lag().over(ibis.window(group_by="user", order_by="at"))
    gaps = events.select(gap=events.at - before)
    gaps = gaps.filter(gaps.gap > pause_minutes * 60)
    (found,) = (
        gaps.aggregate(
            gaps=gaps.count(),
            median=gaps.gap.quantile(0.5),
            long=(gaps.gap > long_gap_days * _DAY_S).mean(),
        )
        .to_pyarrow()
        .to_pylist()
    )
    median = found["median"]
    return {
        "gaps": found["gaps"],
        "median_days": None if median is None else median / _DAY_S,
        "long_share": found["long"],
        "users_share": 1 / one_in,
    }


def _unknown(table: ir.Table, column: str, other: str, refused: int, metrics: Any) -> float | None:
    """Events whose counterpart is missing, among the events that were read."""
    rows = metrics["table.row_count"] + refused
    missing = metrics["column_values.in_other_table.unexpected_count"] + refused
    return missing / rows if rows else None


def _number(number: Any) -> Any:
    return None if number is None else float(number)


value("interactions.events_per_user", events_per_user, TABLE_KEYS, ("quantile",))
value("interactions.item_gini", lambda table: gini(popularity(table)), TABLE_KEYS)
value(
    "interactions.unknown_share",
    _unknown,
    COLUMN_KEYS,
    ("other", "refused"),
    needs=("column_values.in_other_table.unexpected_count", "table.row_count"),
)
value(
    "interactions.session_gaps",
    session_gaps,
    TABLE_KEYS,
    ("pause_minutes", "long_gap_days", "max_events"),
)


class _EventsPerUser(MeasureBetween):
    quantile: float = 0.99

    metric_dependencies: ClassVar[tuple[str, ...]] = ("interactions.events_per_user",)
    success_keys: ClassVar[tuple[str, ...]] = ("min_value", "max_value", "quantile")


class ExpectMeanEventsPerUserToBeBetween(_EventsPerUser):
    """Users have, on average, so many events."""

    statistic: ClassVar[str | None] = "mean"


class ExpectQuantileOfEventsPerUserToBeBetween(_EventsPerUser):
    """The user at a quantile has so many events."""

    statistic: ClassVar[str | None] = "quantile"


class ExpectMaxEventsPerUserToBeBetween(_EventsPerUser):
    """The busiest user has so many events."""

    statistic: ClassVar[str | None] = "max"


class ExpectItemPopularityGiniToBeBetween(MeasureBetween):
    """Events are spread over the items neither too evenly nor over too few of them."""

    metric_dependencies: ClassVar[tuple[str, ...]] = ("interactions.item_gini",)


class ExpectUnknownItemShareToBeBetween(MeasureBetween):
    """Of the events read, so many are of items that no items table has."""

    column: str
    other: str  # the table that has them all
    refused: int = 0  # events that ingestion has left out for this reason

    metric_dependencies: ClassVar[tuple[str, ...]] = ("interactions.unknown_share",)
    success_keys: ClassVar[tuple[str, ...]] = (
        *("min_value", "max_value", "column", "other", "refused"),
    )


class _SessionGaps(MeasureBetween):
    pause_minutes: float = 30
    long_gap_days: float = 365
    max_events: int = 5_000_000

    metric_dependencies: ClassVar[tuple[str, ...]] = ("interactions.session_gaps",)
    success_keys: ClassVar[tuple[str, ...]] = (
        *("min_value", "max_value", "pause_minutes", "long_gap_days", "max_events"),
    )


class ExpectMedianSessionGapToBeBetween(_SessionGaps):
    """Days between a user's sessions, the median."""

    statistic: ClassVar[str | None] = "median_days"


class ExpectLongSessionGapShareToBeBetween(_SessionGaps):
    """Of the gaps between sessions, so many are long."""

    statistic: ClassVar[str | None] = "long_share"
