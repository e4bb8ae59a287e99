"""ONNX Runtime on the CPU, the same way everywhere; needs no torch."""

import os
import shutil
from pathlib import Path
from typing import Any

# Its wheels report usage to their vendor and keep a device id in the user's home; ours do not.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def graph_file(path: Path) -> Path:
    """The .onnx file of a graph: itself, or that of a folder which holds its weights beside it."""
    # The name that Triton's onnxruntime_backend looks for (ModelState::LoadModel).
    return path / "model.onnx" if Path(path).is_dir() else Path(path)


def copy_graph(source: Path, target: Path) -> None:
    """A file, or a folder with all that is in it."""
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)


def open_session(graph: Path | bytes, threads: int = 1) -> Any:
    """An onnxruntime.InferenceSession of the graph at a path, or of a file's bytes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        graph if isinstance(graph, bytes) else str(graph_file(graph)),
        sess_options=options,
        providers=["CPUExecutionProvider"],
    )
