"""Triton's `onnxruntime` backend in Python, for servers that lack the C++ one.

Reads the same folder and the same config.pbtxt: `<version>/model.onnx`, a file, or a folder that
holds a `model.onnx` and its external data, and the parameters `intra_op_thread_count` and
`inter_op_thread_count`. Runs on the CPU.

One parameter the C++ backend does not know: `pipeline`, names of models of the same repository. A
model that has it has no graph of its own but runs theirs, one after the other, in one process.
Tensors are handed on by name, as in an ensemble whose maps rename nothing.

It runs inside Triton's stub process: it can import nothing of this project.
"""

import json
import os
import site
import sys
from itertools import chain
from pathlib import Path
from struct import Struct

# The embedded interpreter ignores PYTHONPATH, and triton_python_backend_utils needs numpy: this
# environment's, whatever else the interpreter found.
site.addsitedir(os.environ["KUBEREC_TRITON_SITE"])
sys.path.insert(0, os.environ["KUBEREC_TRITON_SITE"])

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

_LENGTH = Struct("<I")  # before each element of a BYTES tensor
_CPU = ["CPUExecutionProvider"]


def _strings_from_bytes(buffer: "bytes | np.ndarray") -> np.ndarray:
    """Elements of a serialised BYTES tensor as str, which is what ONNX Runtime wants, [n].

    Bytes that are no UTF-8 become an id that no vocabulary knows, not an error for a whole batch.
    """
    raw, texts, start = bytes(buffer), [], 0
    while start < len(raw):
        begin = start + 4
        start = begin + _LENGTH.unpack_from(raw, start)[0]
        texts.append(raw[begin:start].decode("utf-8", "replace"))
    array = np.empty(len(texts), dtype=np.object_)
    array[:] = texts
    return array


def _bytes_from_strings(array: np.ndarray) -> "np.ndarray | tuple":
    """A tensor of str as a serialised BYTES tensor, uint8."""
    if array.size == 0:
        return ()
    items = [text.encode("utf-8") for text in array.ravel().tolist()]
    lengths = map(_LENGTH.pack, map(len, items))
    elements = chain.from_iterable(zip(lengths, items, strict=True))
    return np.frombuffer(b"".join(elements), dtype=np.uint8)


# The stub looks these two up by name for every BYTES tensor. Its own go through numpy element by
# element, and give bytes that would have to be made str in a second pass. On a busy machine these
# took decode's stub (K = 100) from 272 to 223 µs of processor time a request, lookup's from 380 to
# 280.
pb_utils.deserialize_bytes_tensor = _strings_from_bytes
pb_utils.serialize_byte_tensor = _bytes_from_strings


def _parameter(config: dict, key: str, default: str) -> str:
    return config.get("parameters", {}).get(key, {}).get("string_value", default)


class _Graph:
    """One model's graph. Tensors go in and come out by name."""

    def __init__(self, folder: Path, version: str, config: dict) -> None:
        path = folder / version / (config.get("default_model_filename") or "model.onnx")
        if path.is_dir():
            path /= "model.onnx"  # onnxruntime_backend, ModelState::LoadModel: whatever its name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(_parameter(config, "intra_op_thread_count", "1"))
        options.inter_op_num_threads = int(_parameter(config, "inter_op_thread_count", "1"))
        # Waiting threads sleep: several models share few cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # an optional input is a warning at every load
        self._session = onnxruntime.InferenceSession(str(path), options, providers=_CPU)
        self.inputs = [tensor.name for tensor in self._session.get_inputs()]
        self.inputs += [t.name for t in self._session.get_overridable_initializers()]
        self.outputs = [tensor.name for tensor in self._session.get_outputs()]

    def add_outputs(self, tensors: dict) -> dict:
        """`tensors` with what the graph makes of those that it reads."""
        feed = {name: tensors[name] for name in self.inputs if name in tensors}
        results = self._session.run(self.outputs, feed)
        return tensors | dict(zip(self.outputs, results, strict=True))


class TritonPythonModel:
    """One instance of one model.

    `_alone` are the graphs that run for each request, `_together` those that run once for all that
    Triton merged. A pipeline's first graph is of the former kind: its rows may differ in length
    from request to request (allow_ragged_batch), and what it makes of them has fixed widths.
    """

    def initialize(self, args: dict) -> None:
        config = json.loads(args["model_config"])
        folder, version = Path(args["model_repository"]), args["model_version"]
        pipeline = _parameter(config, "pipeline", "")
        folders = [folder.parent / name for name in pipeline.split(",")] if pipeline else [folder]
        graphs = [_Graph(each, version, config) for each in folders]
        merges = int(config.get("max_batch_size", 0)) > 0
        alone = int(bool(pipeline)) if merges else len(graphs)
        self._alone, self._together = graphs[:alone], graphs[alone:]
        made = {name for graph in self._together for name in graph.outputs}
        self._merged = {name for graph in self._together for name in graph.inputs} - made
        self._outputs = [output["name"] for output in config["output"]]

    def execute(self, requests: list) -> list:
        answers = [self._prepare(request) for request in requests]
        good = [number for number, answer in enumerate(answers) if isinstance(answer, dict)]
        finished = self._finish([answers[number] for number in good])
        for number, response in zip(good, finished, strict=True):
            answers[number] = response
        return answers

    def _prepare(self, request: "pb_utils.InferenceRequest") -> "dict | pb_utils.InferenceResponse":
        """A request's tensors, with those that the graphs for it alone make; or its error."""
        try:
            tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            for graph in self._alone:
                tensors = graph.add_outputs(tensors)
            return tensors
        except Exception as error:
            return _failure(error)

    def _finish(self, requests: list) -> list:
        """Responses to requests: by one run for all, or each its own if that fails."""
        try:
            if not self._together or len(requests) < 2:
                return [self._response(self._run_together(tensors)) for tensors in requests]
            names = [name for name in requests[0] if name in self._merged]
            ends = np.cumsum([len(tensors[names[0]]) for tensors in requests])[:-1]
            merged = {n: np.concatenate([tensors[n] for tensors in requests]) for n in names}
            results = self._run_together(merged)
            parts = {name: np.split(results[name], ends) for name in self._outputs}
            return [
                self._response({name: parts[name][number] for name in self._outputs})
                for number in range(len(requests))
            ]
        except Exception as error:  # whichever is at fault: each gets its own answer
            if len(requests) < 2:
                return [_failure(error)]
            return [response for tensors in requests for response in self._finish([tensors])]

    def _run_together(self, tensors: dict) -> dict:
        for graph in self._together:
            tensors = graph.add_outputs(tensors)
        return tensors

    def _response(self, tensors: dict) -> "pb_utils.InferenceResponse":
        # Outputs that a request does not want are dropped by the stub (PruneOutputTensors).
        outputs = [pb_utils.Tensor(name, tensors[name]) for name in self._outputs]
        return pb_utils.InferenceResponse(outputs)


def _failure(error: Exception) -> "pb_utils.InferenceResponse":
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
