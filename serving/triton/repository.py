"""A model version's folder: a Triton model repository of three ONNX models and their ensemble.

The same files load on the embedded server (backend/model.py) and on the full Triton image.

`exclude` is optional in the ensemble and in `lookup`. Triton's C++ ONNX Runtime backend refuses an
optional input in a model with max_batch_size > 0 (onnxruntime_backend, ModelInstanceState::
ValidateInputs), so `lookup` has max_batch_size 0 and the batch as its first dimension: the ensemble
of a batching model and a non-batching one is legal when the latter's dims are [-1, ...]
(core, ensemble_utils.cc, ValidateTensorConsistency). Nothing is lost: requests of different history
lengths could not be merged in `lookup` anyway; they are in `ranker`, whose shapes are fixed.
"""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

from recommender.files import atomic_directory
from serving.settings import TritonConfig

ENSEMBLE = "recommend"
MODELS = ("lookup", "ranker", "decode")


class Shapes(NamedTuple):
    """Widths of a model version's tensors."""

    max_length: int
    max_seen: int
    k: int


def write_repository(
    directory: Path, lookup: Path, ranker: Path, decode: Path, config: TritonConfig | None = None
) -> Shapes:
    """Write the model repository to `directory`, atomically, from three .onnx files.

    Widths come from the graphs themselves. An existing `directory` is replaced. The files
    kuberec.json and golden.json are added by `serving.version.write_manifest`.

    Raises:
        ValueError: naming the tensor, if the graphs do not fit together.
    """
    config = config or TritonConfig()
    sources = dict(zip(MODELS, (lookup, ranker, decode), strict=True))
    shapes = read_shapes(**sources)
    texts = {
        "lookup": _lookup_config(shapes, config),
        "ranker": _ranker_config(shapes, config),
        "decode": _decode_config(shapes, config),
        ENSEMBLE: _ensemble_config(shapes, config),
    }
    with atomic_directory(Path(directory)) as draft:
        for name, text in texts.items():
            (draft / name / "1").mkdir(parents=True)
            (draft / name / "config.pbtxt").write_text(text, encoding="utf-8")
            if name in sources:
                shutil.copyfile(sources[name], draft / name / "1" / "model.onnx")
        # Git and object stores drop empty folders, and Triton needs this one.
        (draft / ENSEMBLE / "1" / ".keep").touch()
    return shapes


def read_shapes(lookup: Path, ranker: Path, decode: Path) -> Shapes:
    """Widths L, M, K of three .onnx files; ValueError names the tensor that does not fit."""
    graphs = {
        name: _tensors(path) for name, path in zip(MODELS, (lookup, ranker, decode), strict=True)
    }

    def width(model: str, tensor: str) -> int:
        if tensor not in graphs[model]:
            raise ValueError(
                f"the {model} graph has no tensor '{tensor}', only {sorted(graphs[model])}"
            )
        dims = graphs[model][tensor]
        if len(dims) != 2 or dims[1] < 1:
            raise ValueError(f"{model}: '{tensor}' must have a fixed width [B, n], not {dims}")
        return dims[1]

    shapes = Shapes(
        width("lookup", "history_ids"), width("lookup", "seen_ids"), width("ranker", "item_indices")
    )
    expected = {
        ("ranker", "history_ids"): shapes.max_length,
        ("ranker", "seen_ids"): shapes.max_seen,
        ("ranker", "scores"): shapes.k,
        ("decode", "item_indices"): shapes.k,
        ("decode", "item_ids"): shapes.k,
    }
    for (model, tensor), wanted in expected.items():
        if width(model, tensor) != wanted:
            raise ValueError(
                f"{model}: '{tensor}' is {width(model, tensor)} wide, its neighbour {wanted}"
            )
    return shapes


def _tensors(path: Path) -> dict[str, list[int]]:
    """Inputs and outputs of a graph: name -> dims, -1 where not fixed."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph

    def dims(value: Any) -> list[int]:
        return [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]

    return {value.name: dims(value) for value in [*graph.input, *graph.output]}


def _tensor(name: str, data_type: str, dims: str, extra: str = "") -> str:
    return f'  {{ name: "{name}" data_type: {data_type} dims: [ {dims} ]{extra} }}'


def _model(
    name: str, max_batch_size: int, inputs: list[str], outputs: list[str], *rest: str
) -> str:
    lines = [
        f'name: "{name}"',
        'platform: "ensemble"' if name == ENSEMBLE else 'backend: "onnxruntime"',
        f"max_batch_size: {max_batch_size}",
        "input [\n" + ",\n".join(inputs) + "\n]",
        "output [\n" + ",\n".join(outputs) + "\n]",
        *rest,
    ]
    return "\n".join(lines) + "\n"


def _runtime(count: int, kind: str, config: TritonConfig) -> str:
    return (
        f"instance_group [ {{ count: {count} kind: KIND_{kind.upper()} }} ]\n"
        'parameters { key: "intra_op_thread_count" '
        f'value: {{ string_value: "{config.intra_threads}" }} }}\n'
        'parameters { key: "inter_op_thread_count" value: { string_value: "1" } }'
    )


def _batching(delay_us: int) -> str:
    return f"dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}"


def _lookup_config(shapes: Shapes, config: TritonConfig) -> str:
    return _model(
        "lookup",
        0,  # see the module's docstring
        [
            _tensor("history", "TYPE_STRING", "-1, -1"),
            _tensor("exclude", "TYPE_STRING", "-1, -1", " optional: true"),
        ],
        [
            _tensor("history_ids", "TYPE_INT64", f"-1, {shapes.max_length}"),
            _tensor("seen_ids", "TYPE_INT64", f"-1, {shapes.max_seen}"),
        ],
        _runtime(1, "cpu", config),
    )


def _ranker_config(shapes: Shapes, config: TritonConfig) -> str:
    def warmup(name: str, batch_size: int) -> str:
        inputs = "\n".join(
            f'  inputs {{ key: "{tensor}" value: '
            f"{{ data_type: TYPE_INT64 dims: [ {width} ] zero_data: true }} }}"
            for tensor, width in (("history_ids", shapes.max_length), ("seen_ids", shapes.max_seen))
        )
        return f'model_warmup {{\n  name: "{name}"\n  batch_size: {batch_size}\n{inputs}\n}}'

    return _model(
        "ranker",
        config.max_batch_size,
        [
            _tensor("history_ids", "TYPE_INT64", str(shapes.max_length)),
            _tensor("seen_ids", "TYPE_INT64", str(shapes.max_seen)),
        ],
        [
            _tensor("item_indices", "TYPE_INT64", str(shapes.k)),
            _tensor("scores", "TYPE_FP32", str(shapes.k)),
        ],
        _batching(config.max_queue_delay_us),
        _runtime(config.ranker_instances, config.ranker_kind, config),
        # Not ready before it has answered once at either end of its batch sizes.
        warmup("one", 1),
        warmup("full", config.max_batch_size),
    )


def _decode_config(shapes: Shapes, config: TritonConfig) -> str:
    return _model(
        "decode",
        config.max_batch_size,
        [_tensor("item_indices", "TYPE_INT64", str(shapes.k))],
        [_tensor("item_ids", "TYPE_STRING", str(shapes.k))],
        _batching(0),
        _runtime(1, "cpu", config),
    )


def _ensemble_config(shapes: Shapes, config: TritonConfig) -> str:
    def step(model: str, inputs: list[str], outputs: list[str]) -> str:
        maps = [("input_map", name) for name in inputs] + [("output_map", name) for name in outputs]
        lines = [f'      {kind} {{ key: "{name}" value: "{name}" }}' for kind, name in maps]
        return (
            f'    {{\n      model_name: "{model}"\n      model_version: -1\n'
            + "\n".join(lines)
            + "\n    }"
        )

    steps = [
        step("lookup", ["history", "exclude"], ["history_ids", "seen_ids"]),
        step("ranker", ["history_ids", "seen_ids"], ["item_indices", "scores"]),
        step("decode", ["item_indices"], ["item_ids"]),
    ]
    return _model(
        ENSEMBLE,
        config.max_batch_size,
        [
            _tensor("history", "TYPE_STRING", "-1"),
            _tensor("exclude", "TYPE_STRING", "-1", " optional: true"),
        ],
        [
            _tensor("item_ids", "TYPE_STRING", str(shapes.k)),
            _tensor("scores", "TYPE_FP32", str(shapes.k)),
        ],
        "ensemble_scheduling {\n  step [\n" + ",\n".join(steps) + "\n  ]\n}",
    )
