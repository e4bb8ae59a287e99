"""A tiny version as compression leaves one: an INT8 ranker for CPUs, the float one for GPUs."""

from pathlib import Path
from typing import Any

from tiny_version import REQUESTS, catalogue, tiny_graphs

from serving.parity import golden_answers
from serving.triton.repository import write_repository
from serving.version import write_manifest


def write_quantised_version(
    directory: Path, version: str, parity: dict[str, Any] | None = None
) -> Path:
    """Seal one; `parity` are the limits of its export."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder = directory.parent / f"{directory.name}-graphs"
    lookup, ranker, decode = tiny_graphs(folder, catalogue())
    int8 = folder / "int8.onnx"
    quantize_dynamic(str(ranker), str(int8), ["MatMul"], weight_type=QuantType.QInt8)
    write_repository(directory, lookup, int8, decode, gpu_ranker=ranker)
    facts = {"config": {"export": {"parity": parity or {}}}}
    write_manifest(directory, version, golden_answers(directory, REQUESTS), facts)
    return directory
