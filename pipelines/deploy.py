"""`kuberec deploy`: a rollout on a cluster without a pipeline, by an operator or a CI."""

from pathlib import Path
from typing import Any

from rich.console import Console

from components.champion import serves_after
from feature_repo.store import registry_file
from pipelines.champion import mark_champion
from pipelines.config import load_config
from pipelines.endpoint import lines_on
from serving.rollout.kserve.rollout import rollout
from serving.rollout.outcome import RolloutStopped


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
    """Roll a model version out by a run's YAML, of which `serving` and `tracking` are used.

    What serves in the end is the champion of its registry.

    Args:
        registry: the Feast registry to publish with the version; by default that of the state
            home's feature store, if there is one.
        force: take over a version that somebody else set by hand, or that is not ready.
        canary: False: put it in the place of what serves at once, unjudged.

    Raises:
        KuberecError: as of serving.rollout.kserve.rollout.
    """
    loaded = load_config(config, overrides or [])
    section = loaded.tracking.named(loaded.name)
    found = registry or registry_file(home)
    try:
        result = rollout(
            version_dir,
            found if registry or found.is_file() else None,
            loaded.serving,
            lines_on(console),
            force=force,
            canary=canary,
        )
    except RolloutStopped as stopped:
        if version := serves_after(stopped.rollout):
            mark_champion(version, home, console, section)
        raise
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
    mark_champion(result["version"], home, console, section, version_dir)
    return result
