"""Triton's `onnxruntime` backend in Python, for servers that lack the C++ one.

Reads the same folder and the same config.pbtxt: `<version>/model.onnx`, a file or a folder that
holds one, and the parameters `intra_op_thread_count` and `inter_op_thread_count`. Runs on the CPU.
It runs inside Triton's stub process: it can import nothing of this project.
"""

import json
import os
import site
import sys
from pathlib import Path

# The embedded interpreter ignores PYTHONPATH, and triton_python_backend_utils needs numpy: this
# environment's, whatever else the interpreter found.
site.addsitedir(os.environ["KUBEREC_TRITON_SITE"])
sys.path.insert(0, os.environ["KUBEREC_TRITON_SITE"])

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


def _parameter(config: dict, key: str, default: int) -> int:
    return int(config.get("parameters", {}).get(key, {}).get("string_value", default))


def _model_file(args: dict, config: dict) -> Path:
    name = config.get("default_model_filename") or "model.onnx"
    path = Path(args["model_repository"]) / args["model_version"] / name
    return path / name if path.is_dir() else path


def _from_triton(tensor: "pb_utils.Tensor") -> np.ndarray:
    array = tensor.as_numpy()
    if array.dtype != np.object_:
        return array
    # Bytes that are no UTF-8 become an id that no vocabulary knows, not an error for a whole batch.
    texts = [item.decode("utf-8", "replace") for item in array.ravel()]
    return np.array(texts, dtype=np.object_).reshape(array.shape)


def _to_triton(name: str, array: np.ndarray) -> "pb_utils.Tensor":
    if array.dtype == np.object_:
        encoded = [item.encode("utf-8") for item in array.ravel()]
        array = np.array(encoded, dtype=np.object_).reshape(array.shape)
    return pb_utils.Tensor(name, np.ascontiguousarray(array))


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
            str(_model_file(args, config)), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._batches = int(config.get("max_batch_size", 0)) > 0

    def execute(self, requests: list) -> list:
        try:
            inputs = [
                {tensor.name(): _from_triton(tensor) for tensor in request.inputs()}
                for request in requests
            ]
            if self._batches and len(requests) > 1:
                return self._merged(requests, inputs)
        except Exception:  # whichever request is at fault: below, each gets its own answer
            pass
        return [self._single(request) for request in requests]

    def _merged(self, requests: list, inputs: list) -> list:
        """One run for all: Triton merges only requests whose shapes agree beyond the batch."""
        names = inputs[0].keys()
        sizes = [len(next(iter(each.values()))) for each in inputs]
        feed = {name: np.concatenate([each[name] for each in inputs]) for name in names}
        outputs = self._session.run(self._outputs, feed)
        ends = np.cumsum(sizes)
        return [
            self._response(request, [output[end - size : end] for output in outputs])
            for request, size, end in zip(requests, sizes, ends, strict=True)
        ]

    def _single(self, request: "pb_utils.InferenceRequest") -> "pb_utils.InferenceResponse":
        try:
            feed = {tensor.name(): _from_triton(tensor) for tensor in request.inputs()}
            return self._response(request, self._session.run(self._outputs, feed))
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _response(self, request: "pb_utils.InferenceRequest", outputs: list) -> object:
        wanted = set(request.requested_output_names())
        tensors = [
            _to_triton(name, output)
            for name, output in zip(self._outputs, outputs, strict=True)
            if name in wanted
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)
