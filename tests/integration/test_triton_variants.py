"""One version folder for every server, and what its settings turn on, on the embedded Triton."""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_version import REQUESTS, K, catalogue, split_weights, tiny_graphs, write_tiny_version
from triton_metrics import metric

from recommender.errors import KuberecError
from serving.parity import check_on_triton, golden_answers, parity, triton_answers
from serving.settings import TritonConfig
from serving.triton.repository import EMBEDDED, GPU, STAGES, TENSORRT, write_repository
from serving.triton.server import TritonServer, temporary_triton

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_version(tmp_path_factory.mktemp("v") / "v", catalogue(), "0123456789ab")


@pytest.fixture(scope="module")
def triton(version: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with temporary_triton(version, tmp_path_factory.mktemp("triton")) as server:
        yield server


def test_every_servers_files_may_lie_there(version: Path, triton: TritonServer) -> None:
    variants = {path.stem for path in version.glob("*/configs/*.pbtxt")}
    assert variants == {EMBEDDED, STAGES, GPU, TENSORRT}
    loaded = loaded_config(triton, "recommend")
    assert loaded["parameters"]["pipeline"]["string_value"] == "lookup,ranker,decode"
    assert len(loaded["model_warmup"]) == 2
    # What it runs by itself is not loaded a second time.
    with pytest.raises(urllib.error.HTTPError, match="404"):
        loaded_config(triton, "ranker")


def test_the_ensemble_of_the_image_runs_too(version: Path, tmp_path: Path) -> None:
    with temporary_triton(version, tmp_path / "triton", variant=STAGES) as server:
        assert loaded_config(server, "recommend")["platform"] == "ensemble"
        ranker = loaded_config(server, "ranker")
    assert ranker["instance_group"][0]["kind"] == "KIND_CPU"
    assert len(ranker["model_warmup"]) == 2


def loaded_config(server: TritonServer, model: str) -> Any:
    with urllib.request.urlopen(f"http://{server.http_url}/v2/models/{model}/config") as response:
        return json.load(response)


@pytest.mark.parametrize(("variant", "ranks"), [(EMBEDDED, "recommend"), (STAGES, "ranker")])
def test_response_cache(tmp_path: Path, variant: str, ranks: str) -> None:
    config = TritonConfig(response_cache=True)
    version = write_tiny_version(tmp_path / "v", catalogue(), "0123456789ab", config=config)
    with temporary_triton(version, tmp_path / "triton", variant=variant) as server:
        first = triton_answers(server.grpc_url, REQUESTS)
        ran = metric(server, "exec_count", ranks)
        assert server.ready()  # asked past the cache, which would hide a stub that died
        assert metric(server, "exec_count", ranks) == ran + 1
        assert metric(server, "nv_cache_num_hits_per_model", "recommend") == 0
        again = triton_answers(server.grpc_url, REQUESTS)
        assert metric(server, "nv_cache_num_hits_per_model", "recommend") == len(REQUESTS)
        assert metric(server, "exec_count", ranks) == ran + 1
        # Another request is no hit, though it differs only by what is excluded.
        best = first[1].item_ids[0]
        other = dict(REQUESTS[1]) | {"exclude": [best]}
        (answer,) = triton_answers(server.grpc_url, [other])
    assert again == first
    assert parity(golden_answers(version, REQUESTS), first)["min_overlap"] == 1.0
    assert answer.item_ids[: K - 1] == first[1].item_ids[1:]


def test_no_cache_unless_wanted(triton: TritonServer) -> None:
    triton_answers(triton.grpc_url, REQUESTS)
    before = metric(triton, "exec_count", "recommend")
    triton_answers(triton.grpc_url, REQUESTS)
    assert metric(triton, "exec_count", "recommend") == before + len(REQUESTS)


def test_external_data_loads(tmp_path: Path) -> None:
    lookup, ranker, decode = tiny_graphs(tmp_path / "graphs", catalogue())
    split_weights(ranker, tmp_path / "split")
    (tmp_path / "graphs/ranker.onnx").unlink()
    write_repository(tmp_path / "v", lookup, tmp_path / "split", decode)
    shutil.rmtree(tmp_path / "split")
    golden = golden_answers(tmp_path / "v", REQUESTS)
    for result in check_on_triton(tmp_path / "v", tmp_path / "triton", golden).values():
        assert result["min_overlap"] == 1.0
        assert result["max_abs_score_diff"] < 1e-5


@pytest.mark.parametrize(("variant", "model"), [(EMBEDDED, "recommend"), (STAGES, "lookup")])
def test_a_server_is_ready_once_it_has_answered_golden_requests(
    tmp_path: Path, variant: str, model: str
) -> None:
    version = tmp_path / "v"
    write_repository(version, *tiny_graphs(tmp_path / "graphs", catalogue()), golden=REQUESTS)
    with temporary_triton(version, tmp_path / "triton", variant=variant) as server:
        samples = loaded_config(server, model)["model_warmup"]
        found = triton_answers(server.grpc_url, REQUESTS)
    assert parity(golden_answers(version, REQUESTS), found)["min_overlap"] == 1.0
    assert samples[0]["name"] == "golden 1"
    (version / model / "warmup" / "golden_1_history").write_bytes(b"\xff\xff\xff\xff")
    with (
        pytest.raises(KuberecError, match="string elements for inference input 'history'"),
        temporary_triton(version, tmp_path / "broken", variant=variant),
    ):
        pass
