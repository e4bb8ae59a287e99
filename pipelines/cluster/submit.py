"""Submission: the pipeline's version on the host, its experiment, a run."""

import hashlib
import json
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.cluster.client import TIMEOUT_S, Door, HostError, told
from pipelines.cluster.compile import compile_pipeline
from pipelines.config import RunConfig


@dataclass(frozen=True)
class Version:
    """A pipeline's version on a host."""

    pipeline_id: str
    version_id: str
    name: str
    is_new: bool


@dataclass(frozen=True)
class Submitted:
    """A run on a host."""

    run_id: str
    page: str


def submit(
    door: Door, config: RunConfig, folder: Path, console: Console, *, experiment: str, cache: bool
) -> Submitted:
    """Create a run of the config's pipeline, and print its page.

    Args:
        door: the host.
        folder: gets the compiled pipeline, as `<config>.yaml`.
        experiment: its name; made if need be.
        cache: whether unchanged steps may come from the host's cache.

    Raises:
        HostError: the host cannot be reached or refuses.
    """
    version = publish(door, config, folder, console, cache=cache)
    experiment_id = find_experiment(door, experiment)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kfp_server_api as server
    body = server.V2beta1Run(
        display_name=f"{config.name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
        experiment_id=experiment_id,
        **what_runs(config, version),
    )
    with told(door, f"create a run of pipeline '{config.name}'"):
        run = door.runs.run_service_create_run(run=body, _request_timeout=TIMEOUT_S)
    page = door.page(run.run_id, config.cluster.ui)
    console.print(f"run {run.run_id}: {page}", highlight=False, markup=False, soft_wrap=True)
    return Submitted(run.run_id, page)


def what_runs(config: RunConfig, version: Version) -> dict[str, Any]:
    """Of a run and of a recurring one: which version, with what arguments, as whom."""
    import kfp_server_api as server

    return {
        "pipeline_version_reference": server.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        "runtime_config": server.V2beta1RuntimeConfig(
            parameters={}, pipeline_root=config.cluster.pipeline_root
        ),
        "service_account": config.cluster.service_account,
    }


def publish(
    door: Door, config: RunConfig, folder: Path, console: Console, *, cache: bool = True
) -> Version:
    """The host's version of what the config compiles to; uploaded unless it is there already.

    Versions are named by their content: `<12 hex digits of sha256>`.
    """
    package = folder / f"{config.name}.yaml"
    compile_pipeline(config, package, cache=cache)
    name = hashlib.sha256(package.read_bytes()).hexdigest()[:12]
    pipeline_id = find_pipeline(door, config.name)
    if pipeline_id is None:
        with told(door, f"upload pipeline '{config.name}'"):
            pipeline_id = door.uploads.upload_pipeline(
                str(package), name=config.name, _request_timeout=TIMEOUT_S, **door.where
            ).pipeline_id
    version = find_version(door, pipeline_id, name)
    is_new = version is None
    if version is None:
        with told(door, f"upload version '{name}' of pipeline '{config.name}'"):
            version = door.uploads.upload_pipeline_version(
                str(package), name=name, pipelineid=pipeline_id, _request_timeout=TIMEOUT_S
            ).pipeline_version_id
    said = "uploaded" if is_new else "there already"
    console.print(f"pipeline {config.name}, version {name}: {said}", highlight=False)
    return Version(pipeline_id, version, name, is_new)


def named(name: str) -> str:
    """A filter for the one object that is called so."""
    predicate = {"operation": "EQUALS", "key": "display_name", "string_value": name}
    return json.dumps({"predicates": [predicate]})


def find_pipeline(door: Door, name: str) -> str | None:
    """The pipeline's id, or nothing."""
    with told(door, f"look for pipeline '{name}'"):
        found = door.pipelines.pipeline_service_list_pipelines(
            filter=named(name), _request_timeout=TIMEOUT_S, **door.where
        ).pipelines
    return found[0].pipeline_id if found else None


def find_version(door: Door, pipeline_id: str, name: str) -> str | None:
    with told(door, f"look for version '{name}'"):
        found = door.pipelines.pipeline_service_list_pipeline_versions(
            pipeline_id, filter=named(name), _request_timeout=TIMEOUT_S
        ).pipeline_versions
    return found[0].pipeline_version_id if found else None


def find_experiment(door: Door, name: str) -> Any:
    """The experiment's id; made if need be."""
    with told(door, f"look for experiment '{name}'"):
        found = door.experiments.experiment_service_list_experiments(
            filter=named(name), _request_timeout=TIMEOUT_S, **door.where
        ).experiments
    if found:
        return found[0].experiment_id
    import kfp_server_api as server

    body = server.V2beta1Experiment(display_name=name, namespace=door.namespace)
    with told(door, f"create experiment '{name}'"):
        made = door.experiments.experiment_service_create_experiment(
            experiment=body, _request_timeout=TIMEOUT_S
        )
    if not made.experiment_id:
        raise HostError(f"{door.host} made experiment '{name}' without an id: is it Kubeflow's?")
    return made.experiment_id
