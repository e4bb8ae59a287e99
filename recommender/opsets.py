"""Which ONNX operator sets a graph may ask for: those that its writer has and every server reads.

Triton takes ONNX Runtime from the `ort_version` of its build.py: 2.56, the first that reads our
configs (`model_metrics`), has 1.21, the image of images/triton (2.71) has 1.27, and the embedded
server 1.32. ONNX Runtime reads every opset up to its own (docs/Versioning.md of its repository);
1.20 and later know 21 and IR 10.

One operator is younger: the product of items as bytes, com.microsoft.MatMulNBits with bits: 8. Its
CPU kernel had 4 bits alone before 1.22 (microsoft/onnxruntime#24384), which Triton has since 2.58.
"""

from pathlib import Path

from recommender.errors import KuberecError
from recommender.onnx_session import graph_file

OPSET = 18  # what torch's exporter writes its operators in; others are converted from it
WRITTEN_FROM = 18
SERVED_UP_TO = 21
SERVED_IR = 10
SERVERS = "Triton 2.56 to 2.71 (ONNX Runtime 1.21 to 1.27) and the embedded server"
BYTES_FROM = "Triton 2.58 (ONNX Runtime 1.22)"  # items as bytes: kind: int8-rows


def opset_problem(opset: int) -> str | None:
    """What is wrong with an opset, and what to do; None: nothing."""
    if opset > SERVED_UP_TO:
        return (
            f"opset {opset} is newer than opset {SERVED_UP_TO}, the last that every server reads: "
            f"{SERVERS}: take {OPSET} to {SERVED_UP_TO}"
        )
    if opset < WRITTEN_FROM:
        return (
            f"opset {opset} is older than opset {WRITTEN_FROM}, the first that torch's exporter "
            f"writes: take {OPSET} to {SERVED_UP_TO}"
        )
    return None


def check_opset(opset: int, place: str = "export.opset") -> None:
    """Raise KuberecError unless graphs of this opset can be written and served."""
    problem = opset_problem(opset)
    if problem is not None:
        raise KuberecError(f"{place}: {problem}")


def check_served(versions: dict[str, int], ir: int, place: str) -> None:
    """Raise KuberecError unless servers read a graph that is there already.

    Args:
        versions: of the graph's domains; "" is ONNX's own.
        ir: version of the file's format.
        place: the graph, in words.
    """
    opset = versions.get("", versions.get("ai.onnx", 0))
    if opset > SERVED_UP_TO:
        raise KuberecError(
            f"{place} asks for opset {opset}; the servers read up to opset {SERVED_UP_TO} "
            f"({SERVERS}): export it with export.opset {OPSET}"
        )
    if ir > SERVED_IR:
        raise KuberecError(
            f"{place} has ONNX IR {ir}; the servers read up to IR {SERVED_IR} ({SERVERS}): export "
            "it anew"
        )


def needs_newer(ranker: Path) -> str:
    """Which of SERVERS a ranker leaves out, and why, in words; nothing where all load it."""
    import onnx

    model = onnx.load(str(graph_file(ranker)), load_external_data=False)
    for node in model.graph.node:
        bits = next((each.i for each in node.attribute if each.name == "bits"), None)
        if node.op_type == "MatMulNBits" and bits == 8:
            return f"its items as bytes (kind: int8-rows) load from {BYTES_FROM} on"
    return ""
