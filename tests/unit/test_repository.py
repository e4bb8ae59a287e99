"""The model repository's files, and what its configs say to which server."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from pydantic import ValidationError
from tiny_version import (
    MAX_LENGTH,
    MAX_SEEN,
    REQUESTS,
    K,
    build_tiny_ranker,
    catalogue,
    split_weights,
    tiny_graphs,
    write_tiny_repository,
)
from tritonclient.grpc import model_config_pb2 as pb

from recommender.string_graphs import build_lookup
from serving.parity import golden_answers
from serving.settings import GpuConfig, TritonConfig
from serving.triton.configs import read_config
from serving.triton.repository import (
    EMBEDDED,
    ENSEMBLE,
    GPU,
    MODELS,
    STAGES,
    config_path,
    graph_path,
    write_repository,
)


def config(repository: Path, model: str, variant: str | None = None) -> Any:
    return read_config(config_path(repository, model, variant))


def test_layout(tmp_path: Path) -> None:
    repository = write_tiny_repository(tmp_path / "repository", catalogue())
    files = sorted(p.relative_to(repository).as_posix() for p in repository.rglob("*.*"))
    assert files == [
        "decode/1/model.onnx",
        "decode/config.pbtxt",
        "decode/configs/stages.pbtxt",
        "lookup/1/model.onnx",
        "lookup/config.pbtxt",
        "lookup/configs/stages.pbtxt",
        "ranker/1/model.onnx",
        "ranker/config.pbtxt",
        "ranker/configs/gpu.pbtxt",
        "ranker/configs/stages.pbtxt",
        "ranker/configs/tensorrt.pbtxt",
        "recommend/1/.keep",
        "recommend/config.pbtxt",
        "recommend/configs/embedded.pbtxt",
        "recommend/configs/stages.pbtxt",
    ]
    # Only the ranker has a GPU's; the others have their usual one there too.
    assert config_path(repository, "lookup", GPU) == repository / "lookup/config.pbtxt"


def test_configs_of_the_full_image(tmp_path: Path) -> None:
    repository = write_tiny_repository(
        tmp_path / "repository",
        catalogue(),
        config=TritonConfig(
            max_batch_size=32,
            preferred_batch_sizes=[4, 16],
            max_queue_delay_us=300,
            ranker_instances=2,
            lookup_instances=3,
            intra_threads=5,
        ),
    )
    lookup, ranker, decode, ensemble = (
        config(repository, model) for model in ("lookup", "ranker", "decode", "recommend")
    )
    # The C++ backend refuses an optional input in a batching model.
    assert lookup.max_batch_size == 0
    assert not lookup.HasField("dynamic_batching")
    assert [(i.name, list(i.dims), i.optional) for i in lookup.input] == [
        ("history", [-1, -1], False),
        ("exclude", [-1, -1], True),
    ]
    assert ranker.max_batch_size == decode.max_batch_size == ensemble.max_batch_size == 32
    assert list(ranker.dynamic_batching.preferred_batch_size) == [4, 16]
    assert ranker.dynamic_batching.max_queue_delay_microseconds == 300
    assert {i.name: list(i.dims) for i in ranker.input} == {
        "history_ids": [MAX_LENGTH],
        "seen_ids": [MAX_SEEN],
    }
    assert [sample.batch_size for sample in ranker.model_warmup] == [1, 32]
    assert [len(model.model_warmup) for model in (lookup, decode)] == [1, 1]
    counts = [(m.instance_group[0].count, m.instance_group[0].kind) for m in (lookup, ranker)]
    assert counts == [(3, pb.ModelInstanceGroup.KIND_CPU), (2, pb.ModelInstanceGroup.KIND_CPU)]
    assert ranker.parameters["intra_op_thread_count"].string_value == "5"
    assert {o.name: list(o.dims) for o in ensemble.output} == {"item_ids": [K], "scores": [K]}
    assert [step.model_name for step in ensemble.ensemble_scheduling.step] == list(MODELS)
    assert not ensemble.response_cache.enable
    for message in (lookup, ranker, decode, ensemble):
        (control,) = message.model_metrics.metric_control
        assert control.metric_identifier.family == "nv_inference_first_response_histogram_ms"
        buckets = list(control.histogram_options.buckets)
        assert buckets == sorted(set(buckets))
        assert (buckets[0], buckets[-1]) == (0.25, 250)


def test_the_embedded_servers_ensemble_lacks_only_what_it_does_not_know(tmp_path: Path) -> None:
    repository = write_tiny_repository(
        tmp_path / "repository", catalogue(), config=TritonConfig(response_cache=True)
    )
    for model in (*MODELS, ENSEMBLE):
        full, stages = config(repository, model), config(repository, model, STAGES)
        assert full.HasField("model_metrics")
        full.ClearField("model_metrics")
        assert stages == full
    assert stages.response_cache.enable


def test_the_embedded_server_serves_one_model_that_looks_like_the_ensemble(tmp_path: Path) -> None:
    settings = TritonConfig(
        max_batch_size=32,
        preferred_batch_sizes=[4],
        max_queue_delay_us=300,
        ranker_instances=2,
        lookup_instances=3,
        intra_threads=5,
        response_cache=True,
    )
    repository = write_tiny_repository(tmp_path / "repository", catalogue(), config=settings)
    ensemble, served = (config(repository, ENSEMBLE, variant) for variant in (STAGES, EMBEDDED))
    assert served.parameters["pipeline"].string_value == ",".join(MODELS)
    assert served.parameters["intra_op_thread_count"].string_value == "5"
    assert (served.backend, served.instance_group[0].count) == ("onnxruntime", 2)
    assert list(served.dynamic_batching.preferred_batch_size) == [4]
    assert served.dynamic_batching.max_queue_delay_microseconds == 300
    assert [sample.batch_size for sample in served.model_warmup] == [1, 32]
    # Requests of different lengths would not be merged without it.
    assert all(tensor.allow_ragged_batch for tensor in served.input)
    # To a client it is the same model.
    for tensor in served.input:
        tensor.allow_ragged_batch = False
    for field in ("input", "output", "max_batch_size", "response_cache"):
        assert getattr(served, field) == getattr(ensemble, field)


def test_gpu_ranker(tmp_path: Path) -> None:
    settings = TritonConfig(
        max_batch_size=48, preferred_batch_sizes=[8], gpu=GpuConfig(precision="fp16", instances=2)
    )
    repository = write_tiny_repository(tmp_path / "repository", catalogue(), config=settings)
    cpu, gpu = config(repository, "ranker"), config(repository, "ranker", GPU)
    (group,) = gpu.instance_group
    assert (group.kind, group.count) == (pb.ModelInstanceGroup.KIND_GPU, 2)
    (accelerator,) = gpu.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    parameters = dict(accelerator.parameters)
    shapes = {
        key: parameters[f"trt_profile_{key}_shapes"].split(",") for key in ("min", "opt", "max")
    }
    # A batch beyond the profile would build another engine while its request waits.
    for key, batch in (("min", 1), ("opt", 8), ("max", cpu.max_batch_size)):
        assert shapes[key] == [f"history_ids:{batch}x{MAX_LENGTH}", f"seen_ids:{batch}x{MAX_SEEN}"]
    assert parameters["precision_mode"] == "FP16"
    assert parameters["trt_engine_cache_path"] == settings.gpu.engine_cache
    # The rest is the CPU's.
    for message in (cpu, gpu):
        for field in ("instance_group", "optimization", "default_model_filename"):
            message.ClearField(field)
    assert gpu == cpu


def test_a_gpu_gets_the_float_graph_and_an_engine_cache_of_its_own(tmp_path: Path) -> None:
    graphs = tiny_graphs(tmp_path / "graphs", catalogue())
    prefixes = set()
    for seed in (1, 2):
        onnx.save(build_tiny_ranker(40, seed=seed), tmp_path / "float.onnx")
        write_repository(tmp_path / "out", *graphs, gpu_ranker=tmp_path / "float.onnx")
        gpu = config(tmp_path / "out", "ranker", GPU)
        assert config(tmp_path / "out", "ranker").default_model_filename == ""
        there = tmp_path / "out/ranker/1" / gpu.default_model_filename
        assert there.read_bytes() == (tmp_path / "float.onnx").read_bytes()
        (accelerator,) = gpu.optimization.execution_accelerators.gpu_execution_accelerator
        prefixes.add(accelerator.parameters["trt_engine_cache_prefix"])
    assert len(prefixes) == 2  # same topology, other weights: engines must not be mixed up
    onnx.save(build_tiny_ranker(40, k=K - 1), tmp_path / "float.onnx")
    with pytest.raises(ValueError, match="decode: 'item_indices' is 5 wide, its neighbour 4"):
        write_repository(tmp_path / "out", *graphs, gpu_ranker=tmp_path / "float.onnx")


def test_preferred_sizes_fit_into_the_largest_batch() -> None:
    with pytest.raises(ValidationError, match="preferred_batch_sizes: 65 is not within 1 and max"):
        TritonConfig(preferred_batch_sizes=[8, 65])
    default = TritonConfig()
    assert max(default.preferred_batch_sizes, default=1) <= default.max_batch_size


def test_external_data_travels_in_a_folder(tmp_path: Path) -> None:
    lookup, ranker, decode = tiny_graphs(tmp_path / "graphs", catalogue())
    split = tmp_path / "split"
    split_weights(ranker, split)
    write_repository(tmp_path / "out", lookup, split / "model.onnx", decode)
    folder = tmp_path / "out/ranker/1/model.onnx"
    assert sorted(p.name for p in folder.iterdir()) == ["model.onnx", "weights.bin"]
    assert graph_path(tmp_path / "out", "ranker") == folder / "model.onnx"
    whole = write_tiny_repository(tmp_path / "whole", catalogue())
    assert golden_answers(tmp_path / "out", REQUESTS) == golden_answers(whole, REQUESTS)
    # From a folder, as a version has it, just as well.
    write_repository(tmp_path / "again", lookup, folder, decode)
    assert (tmp_path / "again/ranker/1/model.onnx/weights.bin").is_file()


def test_external_data_outside_the_graphs_folder_is_refused(tmp_path: Path) -> None:
    lookup, ranker, decode = tiny_graphs(tmp_path / "graphs", catalogue())
    split_weights(ranker, tmp_path / "split")
    model = onnx.load(tmp_path / "split/model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret"
    onnx.save(model, tmp_path / "split/model.onnx")
    with pytest.raises(ValueError, match=r"external data outside its folder: '\.\./secret'"):
        write_repository(tmp_path / "out", lookup, tmp_path / "split/model.onnx", decode)
    assert not (tmp_path / "out").exists()


def test_graphs_that_do_not_fit_are_named(tmp_path: Path) -> None:
    _, ranker, decode = tiny_graphs(tmp_path / "graphs", catalogue())
    onnx.save(build_lookup(catalogue(), MAX_LENGTH, MAX_SEEN + 1), tmp_path / "lookup.onnx")
    with pytest.raises(ValueError, match="ranker: 'seen_ids' is 24 wide, its neighbour 25"):
        write_repository(tmp_path / "out", tmp_path / "lookup.onnx", ranker, decode)
    assert not (tmp_path / "out").exists()


def test_a_version_is_read_without_tritonclient() -> None:
    # The transformer reads it, and kserve cannot share a process with tritonclient.grpc.
    code = "import sys, serving.version; sys.exit('tritonclient' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
