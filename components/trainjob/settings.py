"""What a compiled pipeline tells its train step about the nodes, as one environment variable."""

import os
from typing import Any

from pydantic import Field

from recommender.config import Section

NODES_VARIABLE = "KUBEREC_TRAIN_NODES"


class NodesPlan(Section):
    """Several nodes, each with this; made of the `cluster` section when a pipeline is compiled."""

    nodes: int
    processes: int | None
    runtime: str
    start_timeout_s: int
    timeout_s: int | None
    image: str
    image_pull_secrets: list[str]
    run_as: int
    requests: dict[str, str]
    limits: dict[str, str]
    node_selector: dict[str, str]
    tolerations: list[dict[str, Any]]
    claim: str = Field(description="of the workspace, which all nodes share")
    claim_path: str = Field(description="where it is mounted")
    claim_sub_path: str
    shared_memory: str | None
    env: dict[str, str]


def plan() -> NodesPlan | None:
    """The plan of this step; None where it trains by itself."""
    text = os.environ.get(NODES_VARIABLE)
    return NodesPlan.model_validate_json(text) if text else None
