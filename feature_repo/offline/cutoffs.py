"""Where training's windows end: leave-one-out on the k-core."""

import ibis
import ibis.expr.types as ir

from feature_repo.offline.events import NUMBER
from recommender.engines.base import Keep
from recommender.errors import KuberecError
from recommender.kcore import MAX_ROUNDS, core_edges


class FeatureError(KuberecError):
    """Features that cannot be built from this data."""


def first_events(timed: ir.Table) -> ir.Table:
    """user, item, number: of several events of one user with one item the first counts.

    So no target is in its own history.
    """
    return timed.group_by("user", "item").agg(**{NUMBER: timed[NUMBER].min()})


def find_core(firsts: ir.Table, k: int, keep: Keep) -> ir.Table:
    """Of `first_events` those in the `k`-core.

    Raises:
        FeatureError: nobody is in it.
    """
    core = core_edges(firsts, k, k, keep)
    if core is None:
        raise FeatureError(
            f"the k-core of features.k_core {k} is not found in {MAX_ROUNDS} rounds: lower it"
        )
    if core.count().execute() == 0:
        raise FeatureError(
            f"no users and items have {k} events of each other ({firsts.count().execute():,} of "
            "a user with an item): lower features.k_core, or bring more events"
        )
    return core


def find_cutoffs(core: ir.Table, keep: Keep) -> ir.Table:
    """user; valid, test: numbers of the events that are the targets. Kept on the engine."""
    last = keep("last_of_core", core.group_by("user").agg(test=core[NUMBER].max()))
    rest = core.join(last, "user")
    rest = rest.filter(rest[NUMBER] < rest.test)
    before = rest.group_by("user").agg(valid=rest[NUMBER].max())
    return keep("cutoffs", before.join(last, "user"))


def sample_users(cutoffs: ir.Table, users: ir.Table) -> list[str]:
    """Three users to show: a quarter, half and three quarters up the lengths of histories."""
    total = int(cutoffs.count().execute())
    places = dict.fromkeys([total // 4, total // 2, 3 * total // 4])
    order = ibis.window(order_by=[cutoffs.test, cutoffs.user])
    ranked = cutoffs.select("user", place=ibis.row_number().over(order))
    chosen = ranked.filter(ranked.place.isin(list(places))).join(users, "user").order_by("place")
    return [str(name) for name in chosen.to_pyarrow()["user_id"].to_pylist()]
