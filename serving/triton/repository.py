"""The folder of a model version: a Triton model repository of three ONNX models and their ensemble.

The same files load on the embedded server (backend/model.py) and on the full Triton image, with or
without a GPU. A model's `config.pbtxt` is the full image's on a CPU; where another server needs
another one it lies beside it as `configs/<name>.pbtxt` and is taken with `--model-config-name`:

- `gpu`: the image on a GPU, where ONNX Runtime's TensorRT provider builds an engine at load;
- `tensorrt`: the image on a GPU with an engine that `kuberec engine` has built;
- `embedded`: the embedded server as it serves, `recommend` by itself, which runs the three graphs;
- `stages`: the embedded server with the ensemble and its models, as the image runs them.

A model without such a file has its config.pbtxt everywhere (core, GetModelConfigFullPath). What the
messages say is in configs.py.

This module needs neither protobuf messages nor tritonclient: the transformer imports it, and
kserve and tritonclient.grpc cannot share a process.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from recommender.files import atomic_directory, fingerprint, sha256_file
from recommender.onnx_session import graph_file
from recommender.opsets import check_served
from recommender.string_graphs import EVENT_TIMES
from serving.settings import TritonConfig

ENSEMBLE = "recommend"
MODELS = ("lookup", "ranker", "decode")
# Names for --model-config-name.
EMBEDDED, STAGES, GPU, TENSORRT = "embedded", "stages", "gpu", "tensorrt"
GRAPH = "model.onnx"
# Beside model.onnx, for TensorRT, which takes no asymmetric 8-bit activations: see configs.py.
GPU_GRAPH = "gpu.onnx"


class Shapes(NamedTuple):
    """Widths of a model version's tensors."""

    max_length: int
    max_seen: int
    k: int
    times: bool = False  # whether the ranker reads the times of a history's events


def write_repository(
    directory: Path,
    lookup: Path,
    ranker: Path,
    decode: Path,
    config: TritonConfig | None = None,
    gpu_ranker: Path | None = None,
    golden: Sequence[Mapping[str, Any]] = (),
) -> Shapes:
    """Write the model repository to `directory`, atomically, from .onnx files.

    Widths come from the graphs themselves. An existing `directory` is replaced. The files
    kuberec.json and golden.json are added by `serving.version.write_manifest`.

    Args:
        lookup, ranker, decode: graphs as files, or as folders with a model.onnx. External data
            travels along: Triton wants it in a folder `1/model.onnx/`.
        gpu_ranker: the ranker in floating point, if `ranker` is quantised; for the GPU alone.
        golden: requests; a server is not ready before it has answered some of them.

    Raises:
        ValueError: naming the tensor, if the graphs do not fit together, or the external data,
            if it lies outside its graph's folder.
        KuberecError: a graph asks for an opset that servers do not know.
    """
    from serving.triton.configs import build_configs, to_text
    from serving.triton.warm_up import add_golden

    sources = dict(zip(MODELS, (lookup, ranker, decode), strict=True))
    shapes = read_shapes(**sources)
    graphs = [(name, GRAPH, source) for name, source in sources.items()]
    if gpu_ranker is not None:
        if read_shapes(lookup, gpu_ranker, decode) != shapes:
            raise ValueError(f"'{gpu_ranker}' has other widths than '{ranker}'")
        graphs.append(("ranker", GPU_GRAPH, gpu_ranker))
    _, gpu_graph, gpu_source = graphs[-1] if gpu_ranker is not None else graphs[1]
    engine = fingerprint([sha256_file(path) for path in _files(gpu_source)])[:16]
    configs = build_configs(shapes, config or TritonConfig(), gpu_graph, engine)
    samples = add_golden(configs, graph_file(lookup), golden)
    with atomic_directory(Path(directory)) as draft:
        for name, data in samples.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for (model, variant), message in configs.items():
            path = _config_path(draft, model, variant)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(to_text(message), encoding="utf-8")
        for model, name, source in graphs:
            (draft / model / "1").mkdir(exist_ok=True)
            _copy_graph(source, draft / model / "1" / name)
        # Git and object stores drop empty folders, and Triton needs this one.
        (draft / ENSEMBLE / "1").mkdir()
        (draft / ENSEMBLE / "1" / ".keep").touch()
    return shapes


def graph_path(repository: Path, model: str, name: str = GRAPH) -> Path:
    """The .onnx file of one of a repository's models, however it is laid out."""
    return graph_file(Path(repository) / model / "1" / name)


def config_path(repository: Path, model: str, variant: str | None = None) -> Path:
    """The config that a server started with `--model-config-name=variant` takes for a model."""
    own = _config_path(Path(repository), model, variant)
    return own if own.is_file() else _config_path(Path(repository), model, None)


def read_shapes(lookup: Path, ranker: Path, decode: Path) -> Shapes:
    """Widths L, M, K of three .onnx files; ValueError names the tensor that does not fit.

    The ranker's inputs may have any width: then the lookup says it.
    """
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

    times = EVENT_TIMES in graphs["lookup"] or EVENT_TIMES in graphs["ranker"]
    shapes = Shapes(
        width("lookup", "history_ids"),
        width("lookup", "seen_ids"),
        width("ranker", "item_indices"),
        times,
    )
    expected = {
        ("ranker", "history_ids"): shapes.max_length,
        ("ranker", "seen_ids"): shapes.max_seen,
        ("ranker", "scores"): shapes.k,
        ("decode", "item_indices"): shapes.k,
        ("decode", "item_ids"): shapes.k,
    }
    if times:
        expected |= {
            ("lookup", EVENT_TIMES): shapes.max_length,
            ("ranker", EVENT_TIMES): shapes.max_length,
        }
    for (model, tensor), wanted in expected.items():
        if model == "ranker" and graphs[model].get(tensor) == [-1, -1]:
            continue  # it takes any width
        if width(model, tensor) != wanted:
            raise ValueError(
                f"{model}: '{tensor}' is {width(model, tensor)} wide, its neighbour {wanted}"
            )
    return shapes


def _config_path(repository: Path, model: str, variant: str | None) -> Path:
    folder = repository / model
    return folder / "configs" / f"{variant}.pbtxt" if variant else folder / "config.pbtxt"


def _tensors(path: Path) -> dict[str, list[int]]:
    """Inputs and outputs of a graph: name -> dims, -1 where not fixed.

    Raises:
        KuberecError: servers do not know its opset.
    """
    import onnx

    model = onnx.load(str(graph_file(path)), load_external_data=False)
    opsets = {each.domain: each.version for each in model.opset_import}
    check_served(opsets, model.ir_version, f"the graph '{path}'")
    graph = model.graph

    def dims(value: Any) -> list[int]:
        return [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]

    return {value.name: dims(value) for value in [*graph.input, *graph.output]}


def _copy_graph(source: Path, target: Path) -> None:
    """Copy a graph to `target`: as a file, or as a folder if it has external data."""
    graph, *data = _files(source)
    if not data:
        shutil.copyfile(graph, target)
        return
    target.mkdir()
    shutil.copyfile(graph, target / "model.onnx")
    for path in data:
        place = target / path.relative_to(graph.parent)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _files(source: Path) -> list[Path]:
    """A graph's .onnx file, then the files with tensors that it names as external data."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    graph = graph_file(source)
    model = onnx.load(str(graph), load_external_data=False)
    tensors = [*model.graph.initializer, *(t for n in model.graph.node for t in _attributes(n))]
    names = sorted({ExternalDataInfo(t).location for t in tensors if uses_external_data(t)})
    for name in names:
        if not (graph.parent / name).resolve().is_relative_to(graph.parent.resolve()):
            raise ValueError(f"'{graph}' has external data outside its folder: '{name}'")
    return [graph, *(graph.parent / name for name in names)]


def _attributes(node: Any) -> list[Any]:
    """Tensors in a node's attributes, those of its subgraphs included."""
    found = []
    for attribute in node.attribute:
        found += [attribute.t, *attribute.tensors]
        for graph in (attribute.g, *attribute.graphs):
            found += [*graph.initializer, *(t for n in graph.node for t in _attributes(n))]
    return found
