"""The GPU variant of a model version, on a full tritonserver with a GPU.

    KUBEREC_GPU_TRITONSERVER=/opt/tritonserver/bin/tritonserver pytest tests/tensorrt

No part of `make test`: it needs a Triton image's server (with the ONNX Runtime backend and its
TensorRT accelerator) and a GPU. Without either it fails; it skips nothing. It has not been run
yet: no such machine was at hand when it was written.
"""

import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_version import REQUESTS, catalogue, write_tiny_version

from serving.parity import golden_answers, parity, triton_answers
from serving.ports import free_ports
from serving.settings import GpuConfig, TritonConfig
from serving.triton.server import http_status

VARIABLE = "KUBEREC_GPU_TRITONSERVER"

pytestmark = pytest.mark.timeout(900)  # an engine is built


@pytest.fixture
def version(tmp_path: Path) -> Path:
    config = TritonConfig(gpu=GpuConfig(engine_cache=str(tmp_path / "engines")))
    return write_tiny_version(tmp_path / "v", catalogue(), "0123456789ab", config=config)


@pytest.fixture
def ports(version: Path, tmp_path: Path) -> Iterator[dict[str, int]]:
    """Ports of a server that has loaded every model with --model-config-name=gpu."""
    server = os.environ.get(VARIABLE) or pytest.fail(f"name a full Triton's server in {VARIABLE}")
    found = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    command = [
        server,
        f"--model-repository={version}",
        "--model-config-name=gpu",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--metrics-config=histogram_latencies=true",
        *(f"--{name}-port={port}" for name, port in found.items()),
    ]
    log = tmp_path / "triton.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    try:
        while http_status(found["http"], "/v2/health/ready") != 200:
            assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


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
