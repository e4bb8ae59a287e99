"""The expectations of how people and items meet, by the limits of `validation.interactions`."""

from typing import Any

from ingestion.validation import interactions
from ingestion.validation.named import Named, between
from ingestion.validation.settings import InteractionsConfig
from recommender import schema


def interaction_checks(config: InteractionsConfig, unknown_items: int) -> list[Named]:
    gaps: dict[str, Any] = {
        "pause_minutes": config.session_pause_minutes,
        "long_gap_days": config.long_gap_days,
        "max_events": config.max_gap_events,
    }
    quantile = f"{config.quantile:g} quantile of users"
    plans: list[tuple[str, str, float | None, float | None, Any, dict[str, Any], str]] = [
        (
            *("events.per_user.mean", schema.USER_ID, config.min_events_per_user, None),
            *(interactions.ExpectMeanEventsPerUserToBeBetween, {}, "events a user, mean"),
        ),
        (
            *("events.per_user.quantile", schema.USER_ID, None),
            *(config.max_events_per_user_quantile,),
            interactions.ExpectQuantileOfEventsPerUserToBeBetween,
            *({}, f"events, {quantile}"),
        ),
        (
            *("events.per_user.max", schema.USER_ID, None, config.max_events_of_a_user),
            *(interactions.ExpectMaxEventsPerUserToBeBetween, {}, "events of the busiest user"),
        ),
        (
            *("events.item_gini", schema.ITEM_ID, config.min_item_gini, config.max_item_gini),
            *(interactions.ExpectItemPopularityGiniToBeBetween, {}, "Gini of item popularity"),
        ),
        (
            *("events.unknown_items", schema.ITEM_ID, None, config.max_unknown_item_share),
            interactions.ExpectUnknownItemShareToBeBetween,
            {"column": schema.ITEM_ID, "other": "items", "refused": unknown_items},
            "of the events read",
        ),
        (
            *("events.session_gap.median", schema.TIMESTAMP, None, config.max_median_gap_days),
            *(interactions.ExpectMedianSessionGapToBeBetween, gaps, "days between sessions"),
        ),
        (
            *("events.session_gap.long", schema.TIMESTAMP, None, config.max_long_gap_share),
            interactions.ExpectLongSessionGapShareToBeBetween,
            *(gaps, f"of the gaps between sessions over {config.long_gap_days:g} days"),
        ),
    ]
    found = []
    for name, column, low, high, kind, kwargs, unit in plans:
        if name.startswith("events.per_user"):
            kwargs = {"quantile": config.quantile}
        expectation = kind(min_value=low, max_value=high, **kwargs)
        limit = f"{between(low, high)} {unit}"
        found.append(Named(name, column, limit, expectation, "warning"))
    return found
