"""The model version that runs, here or on a cluster, and how one like it is rolled out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ingestion.sources import SourceConfig
from recommender.errors import KuberecError
from serving.settings import ServingConfig, load_settings
from serving.version import ModelVersion, load_version

Say = Callable[[str], None]


class Running(NamedTuple):
    """Attributes:
    version: verified, its files at hand.
    source: of the config that was given; None: the version's own.
    roll_out: of a version's folder; what the rollout returns.
    """

    version: ModelVersion
    source: SourceConfig | None
    roll_out: Callable[[Path, Say], dict[str, Any]]


def find_running(
    target: str, home: Path, config: Path | None, overrides: list[str], folder: Path
) -> Running:
    """The one that has the requests, but for those of a canary.

    Args:
        folder: for what has to be copied from a cluster's model store.

    Raises:
        KuberecError: none runs; a cluster without a config, or one that cannot be reached.
    """
    from pipelines.config import load_config

    if config is None and overrides:
        raise KuberecError("--set changes a run's YAML: name one, or leave it out")
    loaded = None if config is None else load_config(config, overrides)
    source = None if loaded is None else loaded.source
    if target == "embedded":
        serving = load_settings(home) if loaded is None else loaded.serving
        return Running(_embedded(home), source, _to_endpoint(home, serving))
    if loaded is None:
        raise KuberecError(
            "--target kserve needs a run's YAML, whose section serving.kubernetes names the "
            "InferenceService: kuberec items refresh CONFIG --target kserve"
        )
    return Running(_on_cluster(loaded.serving, folder), source, _to_cluster(home, loaded.serving))


def _embedded(home: Path) -> ModelVersion:
    from serving.embedded.endpoint import NothingToServe
    from serving.embedded.state import ServingHome

    serving = ServingHome(home)
    current = serving.load().current
    if current is None:
        raise NothingToServe(
            "there is no model version that items could join; make one with: "
            "kuberec run pipelines/configs/movielens-100k.yaml"
        )
    return load_version(serving.versions / current)


def _to_endpoint(home: Path, serving: ServingConfig) -> Callable[[Path, Say], dict[str, Any]]:
    def roll_out(version_dir: Path, say: Say) -> dict[str, Any]:
        from pipelines.keeper import start_keeper
        from serving.rollout.embedded.rollout import rollout

        result = rollout(version_dir, home, serving, say)
        start_keeper(home)  # of an endpoint that was stopped; else somebody is at it
        return result

    return roll_out


def _on_cluster(serving: ServingConfig, folder: Path) -> ModelVersion:
    from serving.inference_service import get_service, read_serving
    from serving.kubernetes.api import connect
    from serving.kubernetes.model_store import fetch_published

    where = serving.kubernetes
    found = read_serving(get_service(connect(), where.namespace, where.inference_service))
    if found.storage_uri is None:
        raise KuberecError(
            f"InferenceService '{where.inference_service}' in '{where.namespace}' serves no model "
            "version that items could join: roll one out first (`kuberec deploy`)"
        )
    folder.mkdir()
    return load_version(
        fetch_published(found.storage_uri, Path(where.model_store_mount), folder), verify=False
    )


def _to_cluster(home: Path, serving: ServingConfig) -> Callable[[Path, Say], dict[str, Any]]:
    def roll_out(version_dir: Path, say: Say) -> dict[str, Any]:
        from feature_repo.store import registry_file
        from serving.rollout.kserve.rollout import rollout

        return rollout(version_dir, registry_file(home), serving, say)

    return roll_out
