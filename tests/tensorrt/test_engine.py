"""`kuberec engine` on a real GPU, and Triton with what it built.

    KUBEREC_GPU_TRITONSERVER=/opt/tritonserver/bin/tritonserver pytest tests/tensorrt

Needs a CUDA GPU and the package `tensorrt` in the release of that Triton's; for the last test its
server too. Without any of them it fails; it skips nothing. It has not been run yet.
"""

from pathlib import Path

import pytest
from gpu_triton import gpu_triton
from timed_version import write_timed_version
from tiny_version import REQUESTS, catalogue, write_tiny_version

from serving.parity import golden_answers, parity, triton_answers
from serving.triton.engine.build import build_engine
from serving.triton.engine.plan import Precision
from serving.triton.engine.record import read_engines
from serving.version import load_version

pytestmark = pytest.mark.timeout(900)  # engines are built


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("write", [write_tiny_version, write_timed_version])
def test_an_engine_answers_as_the_float_graph_does(
    write: object, precision: Precision, tmp_path: Path
) -> None:
    folder, cache, said = tmp_path / "v1", tmp_path / "timing.cache", []
    if write is write_tiny_version:
        write_tiny_version(folder, catalogue(), "v1")
    else:
        write_timed_version(folder, "v1")
    entry = build_engine(folder, precision, 256, cache, said.append)
    assert entry["parity"]["top_k_overlap"] >= 0.98
    assert cache.stat().st_size > 0
    load_version(folder)
    (name,) = read_engines(folder)
    assert (folder / name).is_file()
    assert build_engine(folder, precision, 256, cache, said.append) == entry
    assert said[-1] == f"{name} is built already"


def test_triton_serves_the_engine(tmp_path: Path) -> None:
    version = write_tiny_version(tmp_path / "v1", catalogue(), "v1")
    build_engine(version, "fp32")
    load = ("--model-control-mode=explicit", "--load-model=recommend")
    with gpu_triton(version, "tensorrt", tmp_path / "triton.log", *load) as ports:
        answers = triton_answers(f"127.0.0.1:{ports['grpc']}", REQUESTS)
    found = parity(golden_answers(version, REQUESTS), answers)
    assert found["min_overlap"] == 1.0
    assert found["max_abs_score_diff"] < 1e-2  # TensorFloat-32
