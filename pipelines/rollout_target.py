"""The endpoint that `kuberec rollout` is about."""

from collections.abc import Sequence
from pathlib import Path

from recommender.errors import KuberecError
from serving.rollout.target import Target


def find_target(kind: str, home: Path, config: Path | None, overrides: Sequence[str]) -> Target:
    """That of the state home, or the InferenceService that a run's YAML names.

    Raises:
        KuberecError: kserve without a config, or a config without kserve; and what reading the
            config or reaching the cluster raises.
    """
    if kind == "embedded":
        if config is not None or overrides:
            raise KuberecError(
                "--config and --set say where on a cluster; add --target kserve, or leave them "
                "out for the endpoint of this machine"
            )
        from pipelines.endpoint import endpoint
        from serving.rollout.embedded.target import EmbeddedTarget

        return EmbeddedTarget(home, endpoint(home).config)
    if config is None:
        raise KuberecError(
            "--target kserve needs --config: a run's YAML, whose section serving.kubernetes names "
            "the InferenceService"
        )
    from pipelines.config import load_config
    from serving.rollout.kserve.target import KServeTarget

    return KServeTarget(load_config(config, overrides).serving)
