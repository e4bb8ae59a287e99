"""Triton's `onnxruntime` backend in Python, for servers that lack the C++ one.

Reads the same folder and the same config.pbtxt: `<version>/model.onnx`, a file, or a folder that
holds a `model.onnx` and its external data, and the parameters `intra_op_thread_count` and
`inter_op_thread_count`. Runs on the CPU.
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


def _parameter(config: dict, key: str, default: int) -> int:
    return int(config.get("parameters", {}).get(key, {}).get("string_value", default))


def _model_file(args: dict, config: dict) -> Path:
    name = config.get("default_model_filename") or "model.onnx"
    path = Path(args["model_repository"]) / args["model_version"] / name
    # As onnxruntime_backend, ModelState::LoadModel: in a folder, always model.onnx.
    return path / "model.onnx" if path.is_dir() else path


class TritonPythonModel:
    """One instance of one model: one ONNX Runtime session."""

    def initialize(self, args: dict) -> None:
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _parameter(config, "intra_op_thread_count", 1)
        options.inter_op_num_threads = _parameter(config, "inter_op_thread_count", 1)
        # Waiting threads sleep: several models share few cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # an optional input is a warning at every load
        self._session = onnxruntime.InferenceSession(
            str(_model_file(args, config)), options, providers=_CPU
        )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._batches = int(config.get("max_batch_size", 0)) > 0

    def execute(self, requests: list) -> list:
        if self._batches and len(requests) > 1:
            try:
                return self._merged(requests)
            except Exception:  # whichever request is at fault: below, each gets its own answer
                pass
        return [self._single(request) for request in requests]

    def _merged(self, requests: list) -> list:
        """One run for all: Triton merges only requests whose shapes agree beyond the batch."""
        inputs = [_feed(request) for request in requests]
        ends = np.cumsum([len(next(iter(each.values()))) for each in inputs])[:-1]
        feed = {name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]}
        outputs = self._session.run(self._outputs, feed)
        parts = zip(*(np.split(output, ends) for output in outputs), strict=True)
        return [self._response(part) for part in parts]

    def _single(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        try:
            return self._response(self._session.run(self._outputs, _feed(request)))
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _response(self, outputs: "list | tuple") -> "pb_utils.InferenceResponse":
        # Outputs that a request does not want are dropped by the stub (PruneOutputTensors).
        return pb_utils.InferenceResponse(list(map(pb_utils.Tensor, self._outputs, outputs)))


def _feed(request: "pb_utils.InferenceRequest") -> dict:
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
