"""`kuberec engine`: a version's TensorRT engine, built on a GPU node before it serves there."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.options import console


def engine(
    version_dir: Annotated[Path, typer.Argument(help="Folder of a model version.")],
    precision: Annotated[
        Literal["fp32", "fp16", "bf16", "int8"] | None,
        typer.Option(
            help="Of the products; by default the version's serving.triton.gpu.precision."
        ),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="File of measured kernels, for the next build on this kind of GPU."),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="MIB", help="Memory; by default serving.triton.gpu.workspace_mib."
        ),
    ] = None,
) -> None:
    """Build the TensorRT engine of a model version for this machine's GPU.

    It lies beside the version's files and is published with them; Triton takes it with
    --model-config-name=tensorrt. The golden requests are asked of it first.
    """
    from serving.triton.engine.build import build_engine
    from serving.triton.engine.record import plan_name

    built = build_engine(
        version_dir, precision, workspace, timing_cache, say=lambda line: console.print(line)
    )
    parity = built["parity"]
    console.print(
        f"{version_dir / plan_name(built['compute_capability'])}: {built['gpu']}, TensorRT "
        f"{built['tensorrt']}, {built['precision']}; of the golden lists' items "
        f"{parity['top_k_overlap']:.1%} are those of ONNX Runtime",
        highlight=False,
        soft_wrap=True,
    )
