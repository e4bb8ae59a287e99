"""The GPU variant of a model version, on a full tritonserver with a GPU.

    KUBEREC_GPU_TRITONSERVER=/opt/tritonserver/bin/tritonserver pytest tests/tensorrt

No part of `make test`: it needs a Triton image's server (with the ONNX Runtime backend and its
TensorRT accelerator) and a GPU. Without either it fails; it skips nothing. It has not been run
yet: no such machine was at hand when it was written.
"""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpu_triton import gpu_triton
from tiny_version import REQUESTS, catalogue, write_tiny_version

from serving.parity import golden_answers, parity, triton_answers
from serving.settings import GpuConfig, TritonConfig

pytestmark = pytest.mark.timeout(900)  # an engine is built


@pytest.fixture
def version(tmp_path: Path) -> Path:
    config = TritonConfig(gpu=GpuConfig(engine_cache=str(tmp_path / "engines")))
    return write_tiny_version(tmp_path / "v", catalogue(), "0123456789ab", config=config)


@pytest.fixture
def ports(version: Path, tmp_path: Path) -> Iterator[dict[str, int]]:
    """Ports of a server that has loaded every model with --model-config-name=gpu."""
    histograms = "--metrics-config=histogram_latencies=true"
    with gpu_triton(version, "gpu", tmp_path / "triton.log", histograms) as found:
        yield found


def test_tensorrt_answers_as_onnx_runtime_does(
    version: Path, ports: dict[str, int], tmp_path: Path
) -> None:
    found = parity(
        golden_answers(version, REQUESTS), triton_answers(f"127.0.0.1:{ports['grpc']}", REQUESTS)
    )
    assert found["min_overlap"] == 1.0
    assert found["max_abs_score_diff"] < 1e-2  # TensorFloat-32
    # Built while the model loaded, under the prefix that names these weights.
    assert list((tmp_path / "engines").glob("ranker-*.engine"))
    with urllib.request.urlopen(f"http://127.0.0.1:{ports['metrics']}/metrics") as response:
        metrics = response.read().decode()
    assert 'nv_inference_first_response_histogram_ms_bucket{model="recommend"' in metrics
    assert 'le="0.25"' in metrics
