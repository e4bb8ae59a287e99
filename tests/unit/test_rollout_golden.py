"""Golden answers of both graphs, and which of them a server is held to."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from quantised_version import write_quantised_version
from tiny_version import REQUESTS, catalogue, tiny_graphs, write_tiny_repository, write_tiny_version

from recommender.errors import GateFailed
from recommender.files import read_json, sha256_file, write_json
from recommender.settings import ExportConfig
from serving.kubernetes.errors import ClusterError
from serving.kubernetes.seen import serves_on_gpu
from serving.links import SERVED
from serving.parity import golden_answers
from serving.rollout.checks import compare
from serving.rollout.expected import Expected, on_cpu, on_gpu
from serving.rollout.kserve.expected import expected_of
from serving.rollout.side_door import Call, check_golden
from serving.triton.repository import GPU_GRAPH, GRAPH, write_repository
from serving.version import (
    GoldenAnswer,
    GoldenRequest,
    ModelVersion,
    VersionError,
    load_version,
    write_manifest,
)

MANIFESTS = Path(__file__).parents[2] / "manifests"


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    return load_version(write_quantised_version(tmp_path_factory.mktemp("int8") / "v1", "v1"))


@pytest.fixture(scope="module")
def float_server(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """What a GPU answers, without its rounding: the float graph."""
    folder = tmp_path_factory.mktemp("float") / "repository"
    return side_door(write_tiny_repository(folder, catalogue()))


def side_door(repository: Path) -> Call:
    """As a transformer answers there, by ONNX Runtime."""

    def call(method: str, path: str, body: Any) -> Any:
        given = {each["name"]: each["data"] for each in body["inputs"]}
        (answer,) = golden_answers(repository, [given])
        outputs = {"item_ids": answer.item_ids, "scores": answer.scores}
        return {"outputs": [{"name": name, "data": data} for name, data in outputs.items()]}

    return call


def test_a_version_seals_the_answers_of_both_graphs(version: ModelVersion, tmp_path: Path) -> None:
    plain = write_tiny_repository(tmp_path / "float", catalogue())
    golden = version.golden()
    for each, expected in zip(golden, golden_answers(plain, REQUESTS), strict=True):
        assert each.gpu == GoldenAnswer(item_ids=expected.item_ids, scores=expected.scores)
    assert [each.asked() for each in golden] == [each.asked() for each in on_gpu(version).golden]
    apart = [np.subtract(each.scores, each.gpu.scores) for each in golden if each.gpu]
    assert np.abs(apart).max() > 1e-3  # quantisation changes something here


def test_answers_for_gpus_are_part_of_what_is_sealed(tmp_path: Path) -> None:
    folder = write_quantised_version(tmp_path / "v1", "v1")
    golden = read_json(folder / "golden.json")
    golden[1]["gpu"]["scores"][0] += 1
    write_json(folder / "golden.json", golden)
    with pytest.raises(VersionError, match=r"changed: golden\.json"):
        load_version(folder)


def test_a_float_server_passes_as_a_gpu_and_fails_as_a_cpu(
    version: ModelVersion, float_server: Call
) -> None:
    checks = check_golden("canary", float_server, on_gpu(version))
    assert [check.name for check in checks] == [
        "ONNX for GPUs → canary: top-K overlap",
        "ONNX for GPUs → canary: top-10 overlap",
    ]
    with pytest.raises(GateFailed, match=r"FAIL ONNX as served → canary: largest score diff"):
        check_golden("canary", float_server, on_cpu(version))


def test_a_server_on_cpus_passes_as_such(version: ModelVersion) -> None:
    checks = check_golden("canary", side_door(version.directory), on_cpu(version))
    assert {check.name.partition(": ")[0] for check in checks} == {"ONNX as served → canary"}
    assert [check.value for check in checks] == [1.0, 1.0, 0.0]


def test_another_model_fails_on_gpus_too(version: ModelVersion, tmp_path: Path) -> None:
    other = write_tiny_repository(tmp_path / "other", catalogue(), seed=1)
    with pytest.raises(GateFailed, match=r"FAIL ONNX for GPUs → canary: top-K overlap"):
        check_golden("canary", side_door(other), on_gpu(version))


def without_gpu_answers(folder: Path) -> ModelVersion:
    """As earlier code sealed it."""
    golden = read_json(folder / "golden.json")
    write_json(
        folder / "golden.json",
        [{key: each[key] for key in each if key != "gpu"} for each in golden],
    )
    manifest = read_json(folder / "kuberec.json")
    manifest["files"]["golden.json"] = sha256_file(folder / "golden.json")
    write_json(folder / "kuberec.json", manifest)
    return load_version(folder)


def test_a_version_of_earlier_code_rolls_out_on_cpus_alone(tmp_path: Path) -> None:
    version = without_gpu_answers(write_quantised_version(tmp_path / "v1", "v1"))
    assert all(each.gpu is None for each in version.golden())
    check_golden("canary", side_door(version.directory), expected_of(version, [pod()]))
    with pytest.raises(VersionError, match=r"v1 has no golden answers .*Export it again .*CPUs"):
        expected_of(version, [pod("--model-config-name=gpu")])


def test_where_gpus_run_the_same_graph_one_set_is_enough(
    tmp_path: Path, float_server: Call
) -> None:
    alone = load_version(write_tiny_version(tmp_path / "alone", catalogue(), "alone"))
    assert all(each.gpu is None for each in alone.golden())
    lookup, ranker, decode = tiny_graphs(tmp_path / "graphs", catalogue())
    folder = tmp_path / "twice"
    write_repository(folder, lookup, ranker, decode, gpu_ranker=ranker)
    write_manifest(folder, "twice", golden_answers(folder, REQUESTS), {})
    twice = without_gpu_answers(folder)
    assert twice.files[f"ranker/1/{GPU_GRAPH}"] == twice.files[f"ranker/1/{GRAPH}"]
    for version in (alone, twice):
        check_golden("canary", float_server, on_gpu(version))


def test_limits_are_those_of_the_export(tmp_path: Path, float_server: Call) -> None:
    narrow = {"tensorrt": {"max_score_difference": 1e-9}, "triton": {"max_score_difference": None}}
    version = load_version(write_quantised_version(tmp_path / "v1", "v1", narrow))
    checks = check_golden("canary", float_server, on_gpu(version))
    assert checks[2].limit == "<= 1e-09"
    assert on_cpu(version).limits.parity.triton.max_score_difference == "any"
    unknown = load_version(write_quantised_version(tmp_path / "v2", "v2", {"triton": {"new": 1}}))
    with pytest.raises(VersionError, match=r"\(export\.parity\.triton\.new: .*export it again"):
        on_cpu(unknown)


def test_amid_live_requests_a_list_may_end_otherwise() -> None:
    """One item in 100 of one with a score that is no tie, as a rounded activation leaves it."""

    def request(last: str, score: float) -> GoldenRequest:
        ids = [*(f"item-{n}" for n in range(99)), last]
        scores = [*np.linspace(2.0, 1.0, 99).tolist(), score]
        return GoldenRequest(history=["a"], item_ids=ids, scores=scores)

    expected = Expected([request("one", 0.5)], SERVED, "triton", ExportConfig())
    answers = [request("other", 0.5005)]
    assert failed(compare("own", expected, answers)) == ["ONNX as served → own: top-K overlap"]
    assert not failed(compare("gateway", expected, answers, amid_others=True))
    wrong = [request("other", 0.502)]
    assert failed(compare("gateway", expected, wrong, amid_others=True))


def failed(checks: Sequence[Any]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_shorter_lists_are_no_match(version: ModelVersion) -> None:
    expected = on_cpu(version)
    short = [
        GoldenAnswer(item_ids=each.item_ids[:-1], scores=each.scores[:-1])
        for each in expected.golden
    ]
    assert len(failed(compare("canary", expected, short))) == 3


def pod(*args: str, name: str = "canary", command: Sequence[str] = ()) -> dict[str, Any]:
    other = {"name": "transformer-container", "args": ["--model_name=recommend"]}
    triton = {"name": "kserve-container", "args": list(args), "command": list(command)}
    return {"metadata": {"name": name}, "spec": {"containers": [other, triton]}}


def runtime_args(*patches: Path) -> list[str]:
    """Of the ServingRuntime's Triton, with what JSON patches put behind them."""
    (runtime,) = yaml.safe_load_all(
        (MANIFESTS / "base/endpoint/serving-runtime.yaml").read_text(encoding="utf-8")
    )
    (container,) = runtime["spec"]["containers"]
    operations = [
        each for path in patches for each in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]
    added = [each["value"] for each in operations if each["path"].endswith("/args/-")]
    return [*container["args"], *added]


def test_pods_say_whether_they_serve_on_gpus() -> None:
    assert not serves_on_gpu(pod(*runtime_args()))
    overlay = runtime_args(MANIFESTS / "overlays/gpu/triton/runtime.yaml")
    assert serves_on_gpu(pod(*overlay))
    engine = [each.replace("=gpu", "=tensorrt") for each in overlay]
    assert serves_on_gpu(pod(*engine))
    assert serves_on_gpu(pod("--model-config-name", "gpu"))
    shell = "exec tritonserver --model-config-name=gpu --http-port=8085"
    assert serves_on_gpu(pod(command=["sh", "-c", shell]))
    assert not serves_on_gpu(pod("--model-config-name=gpuish"))
    without = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "kserve-container"}]}}
    assert not serves_on_gpu(without)


def test_pods_decide_which_answers_are_expected(version: ModelVersion) -> None:
    gpu = pod("--model-config-name=tensorrt", name="new")
    assert expected_of(version, [gpu, gpu]) == on_gpu(version)
    assert expected_of(version, [pod()]) == on_cpu(version)
    with pytest.raises(ClusterError, match=r"at once.*: new \(GPU\), old \(CPU\)\. Wait"):
        expected_of(version, [gpu, pod(name="old")])


def test_golden_json_without_a_graph_for_gpus_is_as_it_was(tmp_path: Path) -> None:
    folder = write_tiny_version(tmp_path / "v1", catalogue(), "v1")
    entries = json.loads((folder / "golden.json").read_text())
    assert all(set(each) == {"history", "exclude", "item_ids", "scores"} for each in entries)
