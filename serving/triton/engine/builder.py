"""TensorRT's builder and runtime, for the GPU of this machine; imported when an engine is built."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recommender.agreement import Answers
from recommender.files import atomic_file
from serving.triton.engine.plan import EnginePlan
from serving.triton.engine.record import EngineError

# Of the image that serves (images/triton/Dockerfile): another release does not load its engines.
SERVER_TENSORRT = "11.1"
_ABSENT = (
    "no engine can be built here: {problem}. TensorRT makes an engine of a version's ranker for "
    "one kind of GPU. On a node with that GPU, in kuberec's environment, install the release that "
    "the server's image has: python -m pip install 'tensorrt=={release}.*' (Python 3.10 to 3.14; "
    "NVIDIA, Installing TensorRT, method 1). Without an engine start Triton with "
    "--model-config-name=gpu: ONNX Runtime's TensorRT provider then builds one while a version "
    "loads, for minutes"
)


class Device(NamedTuple):
    """The GPU that an engine is for: its name, compute capability ("8.9"), TensorRT's release."""

    name: str
    capability: str
    tensorrt: str


def find_device() -> Device:
    """This machine's first GPU.

    Raises:
        EngineError: TensorRT or a GPU is absent; says what for, and what to do.
    """
    tensorrt = _tensorrt()
    import torch

    if not torch.cuda.is_available():
        raise EngineError(
            _absent("torch sees no CUDA GPU (is it nvidia-smi's, and its driver new?)")
        )
    major, minor = torch.cuda.get_device_capability()
    return Device(torch.cuda.get_device_name(), f"{major}.{minor}", tensorrt.__version__)


def build(plan: EnginePlan, graph: Path, sparse: bool) -> bytes:
    """Build the engine of a graph that has its types in it (graph.py), strongly typed.

    Args:
        sparse: look for kernels that use the 2:4 zeros of weights.

    Raises:
        EngineError: the parser does not take a node, each with what it says; or the builder finds
            no engine, with the end of its log.
    """
    tensorrt = _tensorrt()
    logger = _logger(tensorrt)
    builder = tensorrt.Builder(logger)
    # Without a choice in TensorRT 11, which takes the flag and does nothing; 10 needs it.
    typed = 1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(graph.read_bytes()):
        raise EngineError(_refused(plan, parser))
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, plan.workspace_bytes)
    if sparse:
        config.set_flag(tensorrt.BuilderFlag.SPARSE_WEIGHTS)
    profile = builder.create_optimization_profile()
    for each in plan.inputs:
        profile.set_shape(each.tensor, each.minimum, each.optimum, each.maximum)
    config.add_optimization_profile(profile)
    cache = plan.timing_cache
    before = cache.read_bytes() if cache is not None and cache.is_file() else b""
    # One of another GPU or release is not taken: an empty one is begun in its place.
    if not config.set_timing_cache(config.create_timing_cache(before), ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError(
            f"TensorRT builds no engine of '{plan.graph}' in {plan.precision}. The end of its "
            f"log:\n{logger.end()}\nOut of memory: a smaller --workspace, or a GPU that nothing "
            "else uses"
        )
    if cache is not None:
        with atomic_file(cache) as draft:
            draft.write_bytes(bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def engine_answers(engine: bytes, plan: EnginePlan, inputs: Mapping[str, np.ndarray]) -> Answers:
    """Run an engine on this machine's GPU.

    Args:
        inputs: int64 [n, width] by name; n rows of any number.

    Raises:
        EngineError: this machine's TensorRT does not load it, or it fails.
    """
    import torch

    tensorrt = _tensorrt()
    logger = _logger(tensorrt)
    loaded = tensorrt.Runtime(logger).deserialize_cuda_engine(engine)
    if loaded is None:
        raise EngineError(f"TensorRT does not load the engine that it built:\n{logger.end()}")
    context, stream = loaded.create_execution_context(), torch.cuda.Stream()
    most = plan.inputs[0].maximum[0]
    count = len(next(iter(inputs.values())))
    parts: dict[str, list[np.ndarray]] = {"item_indices": [], "scores": []}
    types = {"item_indices": torch.int64, "scores": torch.float32}
    for first in range(0, count, most):
        rows = {name: each[first : first + most] for name, each in inputs.items()}
        buffers = {name: torch.from_numpy(each.copy()).cuda() for name, each in rows.items()}
        for name, buffer in buffers.items():
            context.set_input_shape(name, tuple(buffer.shape))
        batch = len(next(iter(rows.values())))
        for name, kind in types.items():
            buffers[name] = torch.empty((batch, plan.k), dtype=kind, device="cuda")
        for name, buffer in buffers.items():
            context.set_tensor_address(name, buffer.data_ptr())
        torch.cuda.synchronize()
        if not context.execute_async_v3(stream.cuda_stream):
            raise EngineError(f"the engine fails on {batch} golden requests:\n{logger.end()}")
        stream.synchronize()
        for name in types:
            parts[name].append(buffers[name].cpu().numpy())
    return Answers(np.concatenate(parts["item_indices"]), np.concatenate(parts["scores"]))


def _tensorrt() -> Any:
    try:
        return importlib.import_module("tensorrt")
    except ImportError as error:
        raise EngineError(_absent(f"the package 'tensorrt' is absent ({error})")) from error


def _absent(problem: str) -> str:
    return _ABSENT.format(problem=problem, release=SERVER_TENSORRT)


def _refused(plan: EnginePlan, parser: Any) -> str:
    """What the parser says, a line an error, with the node."""
    lines = []
    for number in range(parser.num_errors):
        error = parser.get_error(number)
        where = f"{error.node_name() or 'no name'} ({error.node_operator()}, node {error.node()})"
        lines.append(f"{where}: {error.desc()}")
    listed = "\n  ".join(lines or ["no node named"])
    return (
        f"TensorRT does not take '{plan.graph}' in {plan.precision}:\n  {listed}\n"
        "Take another --precision, or serve with --model-config-name=gpu, where ONNX Runtime runs "
        "on CUDA what TensorRT does not take"
    )


def _logger(tensorrt: Any) -> Any:
    """TensorRT's log: warnings and errors are kept, for messages of ours."""

    class Log(tensorrt.ILogger):
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            # From bad to chatty: INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE.
            if int(severity) <= int(tensorrt.ILogger.Severity.WARNING):
                self.lines.append(message)

        def end(self) -> str:
            return "\n".join(self.lines[-20:]) or "(empty)"

    return Log()
