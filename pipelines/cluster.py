"""The same pipeline for a cluster: Kubeflow's YAML, and its submission to a host."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.image import IMAGE_VARIABLE
from pipelines.config import RunConfig
from recommender.errors import KuberecError
from recommender.files import atomic_file


class SubmitError(KuberecError):
    """The Kubeflow Pipelines host did not take the run."""


def arguments(config: RunConfig) -> dict[str, Any]:
    """The pipeline's arguments for a run in a cluster.

    Sources that this machine cannot read get the time of submission for a fingerprint, so that the
    cluster's cache never takes changed files for known ones.
    """
    from ingestion.sources import source_fingerprint

    try:
        fingerprint = source_fingerprint(config.source)
    except KuberecError:
        fingerprint = f"submitted-{datetime.now(UTC).isoformat()}"
    return config.sections() | {"source_fingerprint": fingerprint}


def compile_pipeline(config: RunConfig, image: str, target: Path) -> None:
    """Write the pipeline as Kubeflow's YAML, the config's sections being its default arguments.

    Args:
        config: a validated run.
        image: the pipeline's image, best by digest: it is part of the cluster's cache key.
        target: a file; replaced atomically.
    """
    os.environ[IMAGE_VARIABLE] = image  # read when the components are imported
    from kfp import compiler

    from pipelines.recommender import recommender

    with atomic_file(target) as draft:
        whole = draft.with_name(f"{draft.name}.yaml")  # the compiler insists on the suffix
        compiler.Compiler().compile(recommender, str(whole), pipeline_parameters=arguments(config))
        whole.rename(draft)


def submit(
    package: Path, host: str, *, run_name: str, namespace: str | None, experiment: str, cache: bool
) -> str:
    """Send a compiled pipeline to a Kubeflow Pipelines host; returns the run's address.

    A bearer token is taken from the environment variable KFP_TOKEN.

    Raises:
        SubmitError: the host cannot be reached or refuses.
    """
    from kfp import Client
    from kfp_server_api.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        client = Client(host=host, namespace=namespace, existing_token=os.environ.get("KFP_TOKEN"))
        run = client.create_run_from_pipeline_package(
            str(package),
            run_name=run_name,
            experiment_name=experiment,
            namespace=namespace,
            enable_caching=cache,
        )
    except ApiException as error:
        raise SubmitError(
            f"{host} refused the run: {error.status} {error.reason}. "
            "Is KFP_TOKEN set, and may this account create runs in the namespace?"
        ) from error
    except (HTTPError, OSError, RuntimeError) as error:
        raise SubmitError(
            f"cannot reach a Kubeflow Pipelines API at {host}: {error}. Forward its port with "
            "'kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888' and use "
            "--host http://127.0.0.1:8888"
        ) from error
    return f"{host.rstrip('/')}/#/runs/details/{run.run_id}"
