"""What each model's configuration says, as Triton's own protobuf messages, by server.

Imports tritonclient.grpc, so nothing that shares a process with kserve may import this module.

`exclude`, and the times that some versions read, are optional in the ensemble and in `lookup`.
Triton's C++ ONNX Runtime backend refuses an optional input in a model with max_batch_size > 0
(onnxruntime_backend, ModelInstanceState::ValidateInputs), so `lookup` has max_batch_size 0 and the
batch as its first dimension: the ensemble of a batching model and a non-batching one is legal when
the latter's dims are [-1, ...] (core, ensemble_utils.cc, ValidateTensorConsistency). Nothing is
lost: requests of different history lengths could not be merged in `lookup` anyway; they are in
`ranker`, whose shapes are fixed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from recommender.string_graphs import EVENT_TIMES, HISTORY_TIMES
from serving.settings import TritonConfig
from serving.triton.engine.record import plan_name
from serving.triton.repository import (
    EMBEDDED,
    ENSEMBLE,
    GPU,
    MODELS,
    STAGES,
    TENSORRT,
    Shapes,
)

# ms; a request takes about one, and 100 is late. Triton's own are 100, 500, 2000 and 5000.
LATENCY_BUCKETS = (0.25, 0.5, 1, 1.5, 2, 3, 5, 8, 12, 20, 35, 60, 100, 250)
# The only family that can be set (core, metric_model_reporter.h, metric_map_); it is reported by
# servers that are started with --metrics-config=histogram_latencies=true.
LATENCY_FAMILY = "nv_inference_first_response_histogram_ms"

# The kinds of GPU that an engine may be built for, from Turing on, the first that Triton's image of
# 2026 supports (release notes 26.05). Another one is added here, and the version exported again.
COMPUTE_CAPABILITIES = (
    *("7.5", "8.0", "8.6", "8.7", "8.9", "9.0"),
    *("10.0", "10.3", "11.0", "12.0", "12.1"),
)

Tensor = tuple[str, int, Sequence[int]]  # name, type, dims


def build_configs(
    shapes: Shapes, config: TritonConfig, gpu_graph: str, engine: str
) -> dict[tuple[str, str | None], Any]:
    """A ModelConfig for each model and server: (model, variant) -> message.

    Variant None is the full image on a CPU. STAGES is the same for the embedded server, written for
    every model, because its Triton (2.51) does not load a config with the field `model_metrics`.
    EMBEDDED is for `recommend`, the only model loaded where it serves; GPU and TENSORRT for the
    ranker.

    Args:
        gpu_graph: name of the graph that the ranker runs on a GPU.
        engine: an id of that graph's content, for the names of its cached engines.
    """
    full = {
        "lookup": _lookup(shapes, config),
        "ranker": _ranker(shapes, config),
        "decode": _decode(shapes, config),
        ENSEMBLE: _ensemble(shapes, config),
    }
    configs: dict[tuple[str, str | None], Any] = {}
    for model, message in full.items():
        control = message.model_metrics.metric_control.add()
        control.metric_identifier.family = LATENCY_FAMILY
        control.histogram_options.buckets.extend(LATENCY_BUCKETS)
        configs[model, None] = message
        configs[model, STAGES] = stage = pb.ModelConfig()
        stage.CopyFrom(message)
        stage.ClearField("model_metrics")
    configs[ENSEMBLE, EMBEDDED] = _pipeline(shapes, config)
    configs["ranker", GPU] = _gpu_ranker(full["ranker"], shapes, config, gpu_graph, engine)
    configs["ranker", TENSORRT] = _engine_ranker(full["ranker"], config)
    return configs


def to_text(message: Any) -> str:
    """A message as the text of a config.pbtxt."""
    return text_format.MessageToString(message)


def read_config(path: Path) -> Any:
    """The ModelConfig of a config.pbtxt; raises text_format.ParseError."""
    return text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())


def _model(
    name: str, max_batch_size: int, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> Any:
    message = pb.ModelConfig(name=name, max_batch_size=max_batch_size)
    if name != ENSEMBLE:
        message.backend = "onnxruntime"
    for tensor, data_type, dims in inputs:
        message.input.add(name=tensor, data_type=data_type, dims=dims)
        if tensor in ("exclude", HISTORY_TIMES):
            message.input[-1].optional = True
    for tensor, data_type, dims in outputs:
        message.output.add(name=tensor, data_type=data_type, dims=dims)
    return message


def _run_on_cpu(message: Any, instances: int, config: TritonConfig) -> None:
    message.instance_group.add(count=instances, kind=pb.ModelInstanceGroup.KIND_CPU)
    message.parameters["intra_op_thread_count"].string_value = str(config.intra_threads)
    message.parameters["inter_op_thread_count"].string_value = "1"


def _batch(message: Any, preferred: Sequence[int], delay_us: int) -> None:
    message.dynamic_batching.preferred_batch_size.extend(preferred)
    message.dynamic_batching.max_queue_delay_microseconds = delay_us


def _warm_up(message: Any, name: str, batch_size: int, dims: Mapping[str, Sequence[int]]) -> None:
    """Not ready before it has answered this once; strings are empty, numbers 0."""
    sample = message.model_warmup.add(name=name, batch_size=batch_size)
    types = {tensor.name: tensor.data_type for tensor in message.input}
    for tensor, shape in dims.items():
        given = sample.inputs[tensor]
        given.data_type, given.zero_data = types[tensor], True
        given.dims.extend(shape)


def _asked(shapes: Shapes) -> list[Tensor]:
    """What clients send, a row of a batch."""
    times: list[Tensor] = [(HISTORY_TIMES, pb.TYPE_INT64, [-1])] if shapes.times else []
    return [("history", pb.TYPE_STRING, [-1]), ("exclude", pb.TYPE_STRING, [-1]), *times]


def _asked_once(shapes: Shapes) -> dict[str, list[int]]:
    """Dims of a request that warms up: a history with a time for each event."""
    length = shapes.max_length
    times = {HISTORY_TIMES: [length]} if shapes.times else {}
    return {"history": [length], "exclude": [1]} | times


def _ranker_inputs(shapes: Shapes) -> dict[str, int]:
    """What `lookup` makes for `ranker`, with its width."""
    times = {EVENT_TIMES: shapes.max_length} if shapes.times else {}
    return {"history_ids": shapes.max_length, "seen_ids": shapes.max_seen} | times


def _lookup(shapes: Shapes, config: TritonConfig) -> Any:
    ids = _ranker_inputs(shapes)
    message = _model(
        "lookup",
        0,  # see the module's docstring
        [(name, kind, [-1, *dims]) for name, kind, dims in _asked(shapes)],
        [(name, pb.TYPE_INT64, [-1, width]) for name, width in ids.items()],
    )
    _run_on_cpu(message, config.lookup_instances, config)
    _warm_up(message, "one", 1, {name: [1, *dims] for name, dims in _asked_once(shapes).items()})
    return message


def _ranker(shapes: Shapes, config: TritonConfig) -> Any:
    dims = {name: [width] for name, width in _ranker_inputs(shapes).items()}
    message = _model(
        "ranker",
        config.max_batch_size,
        [(name, pb.TYPE_INT64, width) for name, width in dims.items()],
        [("item_indices", pb.TYPE_INT64, [shapes.k]), ("scores", pb.TYPE_FP32, [shapes.k])],
    )
    _batch(message, config.preferred_batch_sizes, config.max_queue_delay_us)
    _run_on_cpu(message, config.ranker_instances, config)
    _warm_up(message, "one", 1, dims)
    _warm_up(message, "full", config.max_batch_size, dims)
    return message


def _decode(shapes: Shapes, config: TritonConfig) -> Any:
    message = _model(
        "decode",
        config.max_batch_size,
        [("item_indices", pb.TYPE_INT64, [shapes.k])],
        [("item_ids", pb.TYPE_STRING, [shapes.k])],
    )
    _batch(message, [], 0)
    _run_on_cpu(message, 1, config)
    _warm_up(message, "one", 1, {"item_indices": [shapes.k]})
    return message


def _ensemble(shapes: Shapes, config: TritonConfig) -> Any:
    message = _recommend(shapes, config)
    message.platform = "ensemble"
    ids = list(_ranker_inputs(shapes))
    steps = {
        "lookup": ([name for name, _, _ in _asked(shapes)], ids),
        "ranker": (ids, ["item_indices", "scores"]),
        "decode": (["item_indices"], ["item_ids"]),
    }
    for model in MODELS:
        inputs, outputs = steps[model]
        step = message.ensemble_scheduling.step.add(model_name=model, model_version=-1)
        step.input_map.update({name: name for name in inputs})
        step.output_map.update({name: name for name in outputs})
    return message


def _pipeline(shapes: Shapes, config: TritonConfig) -> Any:
    """The ensemble as one model of backend/model.py, for a lack of hand-overs between processes."""
    message = _recommend(shapes, config)
    message.backend = "onnxruntime"
    message.parameters["pipeline"].string_value = ",".join(MODELS)
    for tensor in message.input:
        tensor.allow_ragged_batch = True  # histories of different lengths share a batch
    _batch(message, config.preferred_batch_sizes, config.max_queue_delay_us)
    _run_on_cpu(message, config.ranker_instances, config)
    dims = _asked_once(shapes)
    _warm_up(message, "one", 1, dims)
    _warm_up(message, "full", config.max_batch_size, dims)
    return message


def _recommend(shapes: Shapes, config: TritonConfig) -> Any:
    """What clients see, whatever runs it."""
    message = _model(
        ENSEMBLE,
        config.max_batch_size,
        _asked(shapes),
        [("item_ids", pb.TYPE_STRING, [shapes.k]), ("scores", pb.TYPE_FP32, [shapes.k])],
    )
    # Of the whole: a hit skips all three graphs (core, EnsembleScheduler::Enqueue).
    message.response_cache.enable = config.response_cache
    return message


def _gpu_ranker(full: Any, shapes: Shapes, config: TritonConfig, graph: str, engine: str) -> Any:
    """The ranker by ONNX Runtime's TensorRT provider; what it does not take runs on CUDA.

    The keys are those of onnxruntime_backend, src/onnxruntime.cc, ModelState::LoadModel (an unknown
    one fails the load); what they do is said by ONNX Runtime's TensorRT provider. CUDA graphs stay
    off: they replay one shape on the same buffers, Triton brings another batch in others each time.
    """
    message = pb.ModelConfig()
    message.CopyFrom(full)
    message.default_model_filename = graph
    del message.instance_group[:]
    message.instance_group.add(count=config.gpu.instances, kind=pb.ModelInstanceGroup.KIND_GPU)
    accelerators = message.optimization.execution_accelerators
    accelerator = accelerators.gpu_execution_accelerator.add(name="tensorrt")
    largest = config.max_batch_size

    def profile(batch: int) -> str:
        widths = _ranker_inputs(shapes).items()
        return ",".join(f"{tensor}:{batch}x{width}" for tensor, width in widths)

    accelerator.parameters.update(
        {
            "precision_mode": config.gpu.precision.upper(),
            "max_workspace_size_bytes": str(config.gpu.workspace_mib * 2**20),
            # Without them an engine is built at the first request of each new shape, for minutes
            # after the model is ready (server#8085, #6014); with them while it loads.
            "trt_profile_min_shapes": profile(1),
            "trt_profile_opt_shapes": profile(max(config.preferred_batch_sizes, default=largest)),
            "trt_profile_max_shapes": profile(largest),
            "trt_engine_cache_enable": "true",
            "trt_engine_cache_path": config.gpu.engine_cache,
            # The provider names engines by a graph's file name and topology (TRTGenerateId), not by
            # its weights: without the prefix the next version would find this one's engine.
            "trt_engine_cache_prefix": f"ranker-{engine}",
            "trt_timing_cache_enable": "true",
            "trt_timing_cache_path": config.gpu.engine_cache,
        }
    )
    return message


def _engine_ranker(full: Any, config: TritonConfig) -> Any:
    """The ranker as a built engine, one for each kind of GPU that has one.

    Triton takes the file by the GPU's compute capability (tensorrt_backend, cc_model_filenames);
    where that file is not there the model does not load.
    """
    message = pb.ModelConfig()
    message.CopyFrom(full)
    message.backend, message.platform = "tensorrt", "tensorrt_plan"
    message.parameters.clear()  # ONNX Runtime's
    for capability in COMPUTE_CAPABILITIES:
        message.cc_model_filenames[capability] = plan_name(capability).rpartition("/")[2]
    del message.instance_group[:]
    message.instance_group.add(count=config.gpu.instances, kind=pb.ModelInstanceGroup.KIND_GPU)
    return message
