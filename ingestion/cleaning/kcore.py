"""The k-core of the events: every user and every item that is left has enough of them."""

import ibis
import ibis.expr.types as ir

from ingestion.cleaning.rule import REASON, Rule
from ingestion.cleaning.settings import KCoreConfig
from ingestion.engines.base import Keep
from ingestion.errors import IngestError
from recommender import schema
from recommender.kcore import MAX_ROUNDS, core_edges

RARE_USER, RARE_ITEM = "user outside the k-core", "item outside the k-core"


def k_core(config: KCoreConfig) -> Rule | None:
    """Drops events outside the k-core; None where one event each is enough.

    An event's reason is its user, or its item where the user is in the core.
    """
    if config.user_events == 1 and config.item_events == 1:
        return None

    def drops(usable: ir.Table, keep: Keep) -> ir.Table:
        events = usable.select(schema.USER_ID, schema.ITEM_ID, schema.POSITION)
        # Numbers instead of names: what is counted over and over is a third of the size.
        users = _frequent(events, schema.USER_ID, config.user_events, keep)
        items = _frequent(events, schema.ITEM_ID, config.item_events, keep)
        edges = events.join(users, schema.USER_ID).join(items, schema.ITEM_ID)
        edges = keep("core_edges_0", edges.select(user="user_id_number", item="item_id_number"))
        edges = _core(edges, config, keep)
        users = _left(users, schema.USER_ID, edges.user, keep)
        items = _left(items, schema.ITEM_ID, edges["item"], keep)
        by_user = events.anti_join(users, schema.USER_ID)
        by_item = events.semi_join(users, schema.USER_ID).anti_join(items, schema.ITEM_ID)
        return ibis.union(
            by_user.select(schema.POSITION, **{REASON: ibis.literal(RARE_USER)}),
            by_item.select(schema.POSITION, **{REASON: ibis.literal(RARE_ITEM)}),
        )

    return Rule("k_core", drops, counts_as_rejected=False)


def _frequent(events: ir.Table, column: str, least: int, keep: Keep) -> ir.Table:
    """(`column`, <column>_number) of those with enough events before anything is dropped."""
    ids = events.group_by(column).agg(
        **{f"{column}_number": events[schema.POSITION].min(), "events": events.count()}
    )
    return keep(f"core_{column}", ids.filter(ids.events >= least).drop("events"))


def _core(edges: ir.Table, config: KCoreConfig, keep: Keep) -> ir.Table:
    core = core_edges(edges, config.user_events, config.item_events, keep, MAX_ROUNDS)
    if core is None:
        raise IngestError(
            f"events: the k-core of source.cleaning.k_core (user_events {config.user_events}, "
            f"item_events {config.item_events}) is not found in {MAX_ROUNDS} rounds; lower the "
            "two, or leave k_core out"
        )
    return core


def _left(ids: ir.Table, column: str, numbers: ir.Column, keep: Keep) -> ir.Table:
    core = numbers.name(f"{column}_number").as_table().distinct()
    left = ids.semi_join(core, f"{column}_number").select(column)
    return keep(f"core_left_{column}", left)
