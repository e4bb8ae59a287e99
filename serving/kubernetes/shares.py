"""The shares of the requests as the gateway has them: the HTTPRoutes that KServe makes.

status.canaryStatuses only repeats the spec. The true weights are the routes' backendRefs, which
KServe changes once the canary is available, and only while stable's predictor is ready. And these
are true only once the gateway has taken them: one whose controller is gone serves as before,
whatever the route says. The route's status tells which generation of it the gateway has.
"""

from typing import NamedTuple

from serving.inference_service import deployment_name
from serving.kubernetes.api import HTTP_ROUTE, Cluster, Object


class Shares(NamedTuple):
    """What a slot gets in every rule of the routes.

    Attributes:
        percents: of each rule, 0 where it does not name the slot.
        alone: whether no rule of the clients' route names another slot, and the gateway knows.
        behind: why the gateway does not do yet what the routes say; "" if it does.
    """

    percents: list[float]
    alone: bool
    behind: str = ""

    @property
    def percent(self) -> int:
        """The share, or the largest while the rules are not alike yet."""
        return round(max(self.percents, default=0.0))

    def all_at(self, percent: int) -> bool:
        """Whether every rule gives the slot that share, and the gateway has taken them."""
        alike = all(abs(each - percent) < 0.5 for each in self.percents)
        return bool(self.percents) and alike and not self.behind


def shares(
    cluster: Cluster, namespace: str, service: str, stable: str | None, slot: str | None
) -> Shares:
    """A slot's shares; None: of no slot, which is 0 everywhere.

    KServe has two routes for a service: `<service>`, which clients use, and `<service>-predictor`.
    The latter counts where it names the stable slot too, that is, where it is kept up.

    Args:
        stable: slot of the stable version.

    Raises:
        NotFound: there is no route yet.
    """
    route = cluster.get(HTTP_ROUTE, namespace, service)
    backend = deployment_name(service, slot) if slot else ""
    rules, behind = _weights(route), _behind(route)
    alone = bool(rules) and all(set(each) == {backend} for each in rules) and not behind
    second = cluster.find(HTTP_ROUTE, namespace, f"{service}-predictor")
    if second is not None:
        more = _weights(second)
        if all(deployment_name(service, stable) in each for each in more):
            rules += more
            behind = behind or _behind(second)
    return Shares([_share(each, backend) for each in rules], alone, behind)


def _behind(route: Object) -> str:
    """Whether a gateway of the route has not taken its present generation; says which."""
    generation = int(route["metadata"].get("generation", 0))
    found = (route.get("status") or {}).get("parents") or []
    for wanted in route["spec"].get("parentRefs") or []:
        conditions = [
            {each["type"]: each for each in parent.get("conditions") or []}
            for parent in found
            if parent["parentRef"]["name"] == wanted["name"]
        ]
        if not any(_has_taken(each, generation) for each in conditions):
            told = "; ".join(
                f"{each['type']}={each['status']} for generation {each.get('observedGeneration')}"
                for one in conditions
                for each in one.values()
            )
            return (
                f"Gateway '{wanted['name']}' has not taken generation {generation} of HTTPRoute "
                f"'{route['metadata']['name']}' ({told or 'it says nothing'}): is its controller "
                "running?"
            )
    return ""


def _has_taken(conditions: dict[str, Object], generation: int) -> bool:
    """Accepted, and every backend found, as of that generation."""
    return all(
        (each := conditions.get(kind)) is not None
        and each["status"] == "True"
        and each.get("observedGeneration", 0) >= generation
        for kind in ("Accepted", "ResolvedRefs")
    )


def _weights(route: Object) -> list[dict[str, int]]:
    """Weight by Service of every rule that has backends."""
    found = []
    for rule in route["spec"].get("rules") or []:
        weights: dict[str, int] = {}
        for backend in rule.get("backendRefs") or []:
            name = str(backend["name"])
            weights[name] = weights.get(name, 0) + int(backend.get("weight", 1))
        if weights:
            found.append(weights)
    return found


def _share(weights: dict[str, int], backend: str) -> float:
    total = sum(weights.values())
    return 100.0 * weights.get(backend, 0) / total if total else 0.0
