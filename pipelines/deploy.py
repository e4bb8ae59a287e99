"""`kuberec deploy`: a rollout on a cluster without a pipeline, by an operator or a CI."""

from pathlib import Path
from typing import Any

from rich.console import Console

from feature_repo.store import registry_file
from pipelines.config import load_config
from serving.rollout.kserve.rollout import rollout
from serving.settings import ServingConfig


def deploy(
    config: Path,
    version_dir: Path,
    home: Path,
    console: Console,
    *,
    overrides: list[str] | None = None,
    registry: Path | None = None,
    force: bool = False,
    canary: bool = True,
) -> dict[str, Any]:
    """Roll a model version out by a run's YAML, of which the section `serving` is used.

    Args:
        registry: the Feast registry to publish with the version; by default that of the state
            home's feature store, if there is one.
        force: take over a version that somebody else set by hand, or that is not ready.
        canary: False: put it in the place of what serves at once, unjudged.

    Raises:
        KuberecError: as of serving.rollout.kserve.rollout.
    """
    serving: ServingConfig = load_config(config, overrides or []).serving
    found = registry or registry_file(home)
    result = rollout(
        version_dir,
        found if registry or found.is_file() else None,
        serving,
        lambda message: console.print(message, highlight=False, markup=False, soft_wrap=True),
        force=force,
        canary=canary,
    )
    for row in result["rows"]:
        value = f"{row['value']:.4g}" if isinstance(row["value"], float) else row["value"]
        mark = "ok" if row["passed"] else "--"  # an operator may promote before all is known
        console.print(f"  {mark}  {row['name']}: {value} ({row['limit']})", highlight=False)
    verb = "serves already" if result["reused"] else "serves"
    console.print(
        f"{result['version']} {verb} at {result['url']}: gateway {result['grpc_url']}, "
        f"{result['storage_uri']}",
        highlight=False,
        soft_wrap=True,
    )
    return result
