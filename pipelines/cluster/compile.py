"""One config, one Kubeflow YAML: the pipeline of pipelines/recommender.py, placed on a cluster."""

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from pipelines.config import ConfigError, RunConfig, load_config
from recommender.files import atomic_file

TARGET = "kserve"


def load_for_cluster(path: Path, overrides: Sequence[str], image: str | None) -> RunConfig:
    """`load_config`, with another image if one is given, and checked as a whole for a cluster.

    Raises:
        ConfigError: as load_config, or `rollout` would not find the model store.
    """
    config = load_config(path, [*overrides, *([f"cluster.image={image}"] if image else [])])
    where = config.serving.kubernetes
    if where.model_store.startswith("pvc://"):
        claim = where.model_store.removeprefix("pvc://").partition("/")[0]
        mounts = {(each.claim, each.path) for each in config.cluster.mounts("rollout")}
        if (claim, where.model_store_mount) not in mounts:
            volume = f"{{claim: {claim}, path: {where.model_store_mount}, steps: [rollout]}}"
            raise ConfigError(
                f"{path}: serving.kubernetes.model_store is {where.model_store}, to be mounted at "
                f"{where.model_store_mount}, but step 'rollout' has no such volume; say "
                f"cluster.models: {volume}"
            )
    return config


def warn_of_image(config: RunConfig, console: Console) -> None:
    """Say what an image without a digest means for the cache."""
    if not config.cluster.pinned:
        console.print(
            f"warning: image '{config.cluster.image}' is not named by digest. Kubeflow takes the "
            "name for the steps' code: after a push to the same tag, steps may still come from the "
            "cache. Use name@sha256:…, or submit with --no-cache.",
            style="yellow",
            highlight=False,
            markup=False,
        )


def arguments(config: RunConfig) -> dict[str, Any]:
    """The pipeline's arguments for runs on a cluster: its defaults in the compiled YAML.

    There `ingest` runs each time and is no matter of the cache, so the source has no fingerprint:
    the files may be where only the cluster can read them, and a schedule finds new ones.
    """
    return config.sections() | {"source_fingerprint": "", "target": TARGET}


def compile_pipeline(config: RunConfig, target: Path, *, cache: bool = True) -> None:
    """Write the pipeline as Kubeflow's YAML: two documents, pipeline spec and platform spec.

    Args:
        config: a validated run. Its sections become the pipeline's default arguments, and its
            `cluster` section the place of every step.
        target: a file; replaced atomically. The same config gives the same bytes.
        cache: whether unchanged steps may come from the host's cache.
    """
    from kfp import compiler, dsl

    from pipelines.cluster.placement import place
    from pipelines.recommender import recommender

    @functools.wraps(recommender.pipeline_func)
    def placed(*args: Any, **kwargs: Any) -> Any:
        outputs = recommender.pipeline_func(*args, **kwargs)
        tasks = dsl.pipeline_context.Pipeline.get_default_pipeline().tasks
        for name, task in tasks.items():
            place(name, task, config.cluster)
            if not cache:
                task.set_caching_options(False)
        tasks["ingest"].set_caching_options(False)  # reads what is there now; see `arguments`
        return outputs

    pipeline = dsl.pipeline(
        placed,
        name=config.name,
        description=recommender.description,
        pipeline_root=config.cluster.pipeline_root,
    )
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(written), pipeline_parameters=arguments(config))
        documents = list(yaml.safe_load_all(written.read_text(encoding="utf-8")))
    # The compiler's own text has its arguments in another order each time, and floats for integers.
    text = yaml.safe_dump_all(
        map(_whole_numbers, documents), allow_unicode=True, width=100, explicit_start=True
    )
    header = f"# The pipeline '{config.name}', by kuberec compile.\n"
    with atomic_file(target) as draft:
        draft.write_text(header + text, encoding="utf-8")


def _whole_numbers(node: Any) -> Any:
    """`node` with 64 for 64.0: protobuf's Struct knows only floats."""
    if isinstance(node, dict):
        return {key: _whole_numbers(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_whole_numbers(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node
