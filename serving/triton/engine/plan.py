"""What an engine is to be built from, read from a version's graphs and its Triton config.

A description, which needs neither TensorRT nor a GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from recommender.files import sha256_file
from recommender.products import has_half_products
from serving.triton.engine.record import EngineError
from serving.triton.repository import GPU, TENSORRT, config_path, graph_path
from serving.version import ModelVersion

Precision = Literal["fp32", "fp16", "bf16", "int8"]
# TensorRT operator reference, TopK: "k <= 3840".
LARGEST_K = 3840

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """The shapes of one input that an engine takes: at least, at most, and what it is tuned for."""

    tensor: str
    minimum: Shape
    optimum: Shape
    maximum: Shape


@dataclass(frozen=True)
class EnginePlan:
    """Attributes:
    version: id of the model version.
    graph: the ranker that is built: `exact`, of int8 the one that serves on CPUs.
    exact: the one in floating point, by whose answers an engine is judged: float32, or float16 of
        a version that was quantised to it.
    graph_sha256: of that file.
    inputs: a profile each.
    k: length of the lists that the engine gives.
    capabilities: kinds of GPU whose engines the version's config names.
    precision: of the graph that is built; TensorRT takes every type from there.
    workspace_bytes: memory that a layer may use while it runs.
    timing_cache: where measured kernels are kept for the next build on the same kind of GPU.
    """

    version: str
    graph: Path
    exact: Path
    graph_sha256: str
    inputs: tuple[Profile, ...]
    k: int
    capabilities: tuple[str, ...]
    precision: Precision
    workspace_bytes: int
    timing_cache: Path | None


def plan_engine(
    version: ModelVersion,
    precision: Precision | None = None,
    workspace_mib: int | None = None,
    timing_cache: Path | None = None,
) -> EnginePlan:
    """Plan the engine of a version's ranker.

    One profile spans every batch: 1 to the config's max_batch_size, tuned for its largest preferred
    size (the largest batch, where none is preferred). Widths are fixed: `lookup` makes them so.

    Args:
        version: verified.
        precision, workspace_mib: by default what the version's settings say (serving.triton.gpu).

    Raises:
        EngineError: the version was exported before engines were, asks for longer lists than
            TensorRT sorts, or was quantised to float16 and is asked for in another precision.
    """
    from serving.triton.configs import read_config

    folder = version.directory
    path = config_path(folder, "ranker", TENSORRT)
    if path.parent.name != "configs":
        raise EngineError(
            f"model version {version.version} has no ranker/configs/{TENSORRT}.pbtxt: it was "
            "exported before engines were built ahead; export it again, or serve it with "
            f"--model-config-name={GPU}, which builds its engine while it loads"
        )
    if version.k > LARGEST_K:
        raise EngineError(
            f"export.k = {version.k} is more than the {LARGEST_K} items that TensorRT's TopK "
            f"sorts: lower it, or serve with --model-config-name={GPU}"
        )
    config = read_config(path)
    gpu = read_config(config_path(folder, "ranker", GPU))
    wanted = _parameters(gpu)
    chosen = precision or cast(Precision, wanted["precision_mode"].lower())
    served = graph_path(folder, "ranker")
    exact = served
    if gpu.default_model_filename:
        exact = graph_path(folder, "ranker", gpu.default_model_filename)
    if chosen != "int8" and has_half_products(exact):
        if chosen == "bf16" or precision == "fp32":
            raise EngineError(
                f"{chosen}: model version {version.version} was quantised to float16, and its "
                "float32 weights do not travel with it: take fp16, or export a version without "
                "the step quantise"
            )
        chosen = "fp16"  # fp32 is the settings' default
    graph = served if chosen == "int8" else exact
    largest = config.max_batch_size
    tuned_for = max(config.dynamic_batching.preferred_batch_size, default=largest)
    return EnginePlan(
        version=version.version,
        graph=graph,
        exact=exact,
        graph_sha256=sha256_file(graph),
        inputs=tuple(
            Profile(
                each.name,
                *(
                    (batch, *(int(width) for width in each.dims))
                    for batch in (1, tuned_for, largest)
                ),
            )
            for each in config.input
        ),
        k=version.k,
        capabilities=tuple(sorted(config.cc_model_filenames)),
        precision=chosen,
        workspace_bytes=(
            workspace_mib * 2**20
            if workspace_mib is not None
            else int(wanted["max_workspace_size_bytes"])
        ),
        timing_cache=timing_cache,
    )


def _parameters(gpu: Any) -> Mapping[str, str]:
    """Of the accelerator in the GPU's config, that say precision and workspace."""
    (accelerator,) = gpu.optimization.execution_accelerators.gpu_execution_accelerator
    return dict(accelerator.parameters)
