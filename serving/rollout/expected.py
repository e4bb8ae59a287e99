"""What a version's golden requests are to be answered where it serves, and within which limits.

CPUs run the ranker as it was compressed, GPUs the one in floating point: two graphs, whose answers
differ by what quantisation changes. A server is compared with its own graph's.
"""

from typing import NamedTuple

from recommender.settings import ExportConfig
from serving.links import SERVED, Link, sealed_limits
from serving.triton.repository import GPU, GPU_GRAPH, GRAPH
from serving.version import GoldenRequest, ModelVersion, VersionError

FOR_GPUS = "ONNX for GPUs"


class Expected(NamedTuple):
    """Attributes:
    golden: requests with the answers of the graph that serves.
    graph: what that graph is called in a report.
    link: whose limits hold.
    limits: of the version's export.
    """

    golden: list[GoldenRequest]
    graph: str
    link: Link
    limits: ExportConfig

    def __str__(self) -> str:
        """For a line of progress."""
        count = len(self.golden)
        return f"{count} golden request{'s' if count != 1 else ''} ({self.graph})"


def on_cpu(version: ModelVersion) -> Expected:
    """Of a server that runs the very graph that ONNX Runtime ran at the export."""
    return Expected(version.golden(), SERVED, "triton", sealed_limits(version))


def on_gpu(version: ModelVersion) -> Expected:
    """Of a server with --model-config-name=gpu or =tensorrt.

    Raises:
        VersionError: sealed by code that kept no answers of the graph for GPUs.
    """
    golden = version.golden()
    if not _one_graph_for_both(version):
        if any(each.gpu is None for each in golden):
            raise VersionError(
                f"model version {version.version} has no golden answers of its graph for GPUs "
                f"(ranker/1/{GPU_GRAPH}), so that nothing says whether a GPU serves it rightly: it "
                "was exported by an earlier release. Export it again (`kuberec run CONFIG`, which "
                "trains nothing anew where settings and code are the same), or serve it on CPUs, "
                f"without --model-config-name={GPU}"
            )
        golden = [each.model_copy(update=dict(each.gpu)) for each in golden if each.gpu is not None]
    return Expected(golden, FOR_GPUS, "tensorrt", sealed_limits(version))


def _one_graph_for_both(version: ModelVersion) -> bool:
    """Whether GPUs run the same bytes as CPUs, by the sealed sha256 of files."""

    def sealed(name: str) -> dict[str, str]:
        start = f"ranker/1/{name}"  # a file, or a folder where weights lie beside the graph
        return {
            path.removeprefix(start): digest
            for path, digest in version.files.items()
            if path == start or path.startswith(f"{start}/")
        }

    return sealed(GPU_GRAPH) in ({}, sealed(GRAPH))
