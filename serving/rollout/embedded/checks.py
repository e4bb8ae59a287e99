"""What a version on this machine is asked before any client asks it."""

from recommender.errors import Check, require
from serving.client import Door
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.replica import Place, Replica
from serving.rollout.checks import GATE, ask_for_a_user, replay
from serving.rollout.expected import Expected
from serving.settings import ServingConfig


def check_replica(
    endpoint: EmbeddedEndpoint,
    replica: Replica,
    expected: Expected,
    config: ServingConfig,
) -> list[Check]:
    """Golden requests and a user on a version's own servers, without the door.

    Raises:
        GateFailed: an answer is not the golden one, or made without features.
    """
    checks: list[Check] = []
    for where, url, protocol in (
        ("own Triton", replica.triton.grpc_url, "grpc"),
        ("transformer, grpc", replica.transformer.grpc_url, "grpc"),
        ("transformer, http", replica.transformer.http_url, "http"),
    ):
        checks += replay(where, Door(url), expected, config, protocol)
        require(GATE, checks)  # what comes next would only fail for the same reason
    has_store = Place(endpoint.home.root, replica.transformer.version_dir.name).feature_store
    own = Door(replica.transformer.grpc_url)
    checks.append(ask_for_a_user("transformer", own, config, has_store.exists()))
    require(GATE, checks)
    return checks
