"""Shares of the requests, in percent by version: what can be served, and what is refused."""

from collections.abc import Mapping

from recommender.errors import KuberecError
from serving.embedded.state import State


class SplitRefused(KuberecError):
    """Shares that cannot be served; nothing has changed."""


def check_shares(weights: Mapping[str, int], state: State) -> dict[str, int]:
    """The shares, the current version first, or SplitRefused."""
    said = ", ".join(f"{version}: {percent}" for version, percent in weights.items())
    if any(not 0 <= percent <= 100 for percent in weights.values()) or sum(weights.values()) != 100:
        raise SplitRefused(f"shares must be 0 to 100 percent and 100 in sum, not {{{said}}}")
    if state.current not in weights:
        raise SplitRefused(
            f"the current version {state.current} must be among those that share the requests "
            f"({{{said}}}); to leave it, switch to another one"
        )
    for version in weights:
        replica = state.replicas.get(version)
        if replica is None or not replica.ready():
            raise SplitRefused(
                f"model version {version} is not running, so it cannot get a share of the requests"
            )
    return dict(sorted(weights.items(), key=lambda share: share[0] != state.current))
