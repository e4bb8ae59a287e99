"""A real model version in miniature: three ONNX graphs made without torch.

The tiny ranker scores an item by its log-popularity plus the similarity of its vector to the
history's: enough to have answers that depend on everything a request carries.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from recommender.string_graphs import build_decode, build_lookup
from serving.parity import golden_answers
from serving.settings import TritonConfig
from serving.triton.repository import write_repository
from serving.version import write_manifest

MAX_LENGTH, MAX_SEEN, K = 8, 24, 5


def catalogue(size: int = 40, prefix: str = "item-") -> list[str]:
    return [f"{prefix}{index}" for index in range(1, size + 1)]


def build_tiny_ranker(
    n_items: int, k: int = K, seed: int = 0, noise: float = 0.0, shuffled: bool = False
) -> onnx.ModelProto:
    """The ranker of a seed; with `noise` nearly the same, `shuffled` with items' vectors mixed up.

    `noise`: standard deviation, beside the vectors' own of 1.
    """
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n_items + 1, 4)).astype(np.float32)
    other = np.random.default_rng(seed + 1)
    vectors += noise * other.normal(size=vectors.shape).astype(np.float32)
    if shuffled:
        vectors = other.permutation(vectors)
    vectors[0] = 0  # padding adds nothing: an empty history leaves the log-popularity
    popularity = np.sort(rng.normal(size=n_items + 1).astype(np.float32))[::-1].copy()
    popularity[0] = -1e9

    def constant(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.asarray(value), name)

    node = helper.make_node
    nodes = [
        node("Gather", ["vectors", "history_ids"], ["history_vectors"], axis=0),
        node("ReduceSum", ["history_vectors", "axis_1"], ["history_sum"], keepdims=0),
        node("MatMul", ["history_sum", "vectors_t"], ["similarity"]),
        node("Add", ["similarity", "popularity"], ["all_scores"]),
        node("OneHot", ["seen_ids", "depth", "off_on"], ["seen_hot"], axis=-1),
        node("ReduceMax", ["seen_hot"], ["seen_mask"], axes=[1], keepdims=0),
        node("Mul", ["seen_mask", "penalty"], ["masked"]),
        node("Add", ["all_scores", "masked"], ["final"]),
        node("TopK", ["final", "k"], ["scores", "item_indices"], axis=1),
    ]
    constants = [
        constant("vectors", vectors),
        constant("vectors_t", vectors.T.copy()),
        constant("popularity", popularity),
        constant("axis_1", np.array([1], dtype=np.int64)),
        constant("depth", np.array(n_items + 1, dtype=np.int64)),
        constant("off_on", np.array([0, 1], dtype=np.float32)),
        constant("penalty", np.array(-1e9, dtype=np.float32)),
        constant("k", np.array([k], dtype=np.int64)),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "ranker",
        [
            info("history_ids", TensorProto.INT64, ["B", MAX_LENGTH]),
            info("seen_ids", TensorProto.INT64, ["B", MAX_SEEN]),
        ],
        [
            info("item_indices", TensorProto.INT64, ["B", k]),
            info("scores", TensorProto.FLOAT, ["B", k]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model


def tiny_graphs(
    folder: Path, vocabulary: list[str], seed: int = 0, **ranker: Any
) -> tuple[Path, Path, Path]:
    """lookup, ranker and decode as files of their own; `ranker` is build_tiny_ranker's."""
    folder.mkdir(parents=True)
    onnx.save(build_lookup(vocabulary, MAX_LENGTH, MAX_SEEN), folder / "lookup.onnx")
    onnx.save(build_tiny_ranker(len(vocabulary), seed=seed, **ranker), folder / "ranker.onnx")
    onnx.save(build_decode(vocabulary, K), folder / "decode.onnx")
    return folder / "lookup.onnx", folder / "ranker.onnx", folder / "decode.onnx"


def split_weights(graph: Path, folder: Path) -> None:
    """Save `graph` as folder/model.onnx, with its weights as external data beside it."""
    folder.mkdir()
    onnx.save_model(
        onnx.load(graph),
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=256,  # shape inference wants the small constants inside
    )


def write_tiny_repository(
    directory: Path,
    vocabulary: list[str],
    seed: int = 0,
    config: TritonConfig | None = None,
    **ranker: Any,
) -> Path:
    graphs = tiny_graphs(directory.parent / f"{directory.name}-graphs", vocabulary, seed, **ranker)
    write_repository(directory, *graphs, config=config)
    return directory


REQUESTS: list[dict[str, list[str]]] = [
    {"history": [], "exclude": []},
    {"history": ["item-1", "item-2", "item-3"], "exclude": []},
    {"history": ["item-9", "gone", "item-4"], "exclude": ["item-2", "item-5"]},
    {"history": [f"item-{i}" for i in range(1, 15)], "exclude": ["item-20"]},
]


def write_tiny_version(
    directory: Path,
    vocabulary: list[str],
    version: str,
    seed: int = 0,
    config: TritonConfig | None = None,
    **ranker: Any,
) -> Path:
    write_tiny_repository(directory, vocabulary, seed, config, **ranker)
    write_manifest(directory, version, golden_answers(directory, REQUESTS), {"config": {}})
    return directory
