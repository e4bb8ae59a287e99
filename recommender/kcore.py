"""The k-core of a bipartite graph by the engine: every user and item that is left has enough edges.

Dropping rare users makes items rare and the other way round, so that both are repeated until
nothing is dropped: the largest such set, which is one only (Seidman 1983, Social Networks 5;
of bipartite graphs by Ahmed and others 2007).
"""

import ibis.expr.types as ir

from recommender.engines.base import Keep

# MovieLens-100K needs 1 to 4 for k of 5 to 100. What needs many is a chain, each link of which is
# rare only once the one before it is gone.
MAX_ROUNDS = 1000


def core_edges(
    edges: ir.Table, user_edges: int, item_edges: int, keep: Keep, rounds: int = MAX_ROUNDS
) -> ir.Table | None:
    """The edges of the core; None where it takes more rounds than `rounds`.

    Args:
        edges: user and item, best as numbers; other columns ride along.
        user_edges, item_edges: what a user and an item need at least.
    """
    for step in range(1, rounds + 1):
        users = _rare(edges, "user", user_edges, keep)
        left = edges.anti_join(users, "user")
        items = _rare(left, "item", item_edges, keep)
        if users.count().execute() + items.count().execute() == 0:
            return edges
        edges = keep(f"core_edges_{step % 2}", left.anti_join(items, "item"))
    return None


def _rare(edges: ir.Table, end: str, least: int, keep: Keep) -> ir.Table:
    often = edges.group_by(end).agg(edges=edges.count())
    return keep(f"core_rare_{end}", often.filter(often.edges < least).select(end))
