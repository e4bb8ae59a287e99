"""The step quantise in float16: products in 16 bits, what is behind the scores as it was."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported_once import exports_once  # noqa: F401
from onnx import TensorProto
from recommender_data import ITEMS, TINY, random_model, write_windows

from recommender.agreement import top_k_overlap
from recommender.compression.candidate import Candidate, Work
from recommender.compression.check import check_shapes
from recommender.compression.graphs import write_graphs
from recommender.compression.half import half_ranker
from recommender.compression.steps import take
from recommender.errors import KuberecError
from recommender.export import export_ranker, rank
from recommender.item_graphs import pack_items
from recommender.onnx_session import open_session
from recommender.opsets import needs_newer
from recommender.products import has_half_products, lower_products
from recommender.ranker_graph import CODES, RankerGraph
from recommender.ranker_rows import NewRows, append_rows, least_popular
from recommender.schema import MASKED_SCORE
from recommender.sequences import load_windows, pad
from recommender.settings import (
    DistilStep,
    ExportConfig,
    Int8ItemsStep,
    ProductItemsStep,
    QuantiseStep,
    RecoveryConfig,
)
from serving.export import graph_for_gpus

EXPORT = ExportConfig(k=12, max_seen=32)
HALF = QuantiseStep(precision="float16")
CODED = ProductItemsStep(subvectors=4, centroids=ITEMS, recovery=RecoveryConfig(epochs=0))
BEHIND = ("Where", "ScatterElements", "TopK", "Greater")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ranker_fp32.onnx, and ranker.onnx made of it in float16."""
    folder = tmp_path_factory.mktemp("exported")
    export_ranker(random_model(), folder / "ranker_fp32.onnx", EXPORT.k, EXPORT.max_seen)
    half_ranker(folder / "ranker_fp32.onnx", folder / "ranker.onnx")
    return folder


@pytest.fixture(scope="module")
def requests() -> tuple[np.ndarray, np.ndarray]:
    """64, of which the first has no history, and the second has seen all but 5 items."""
    rng = np.random.default_rng(2)
    history_ids = rng.integers(1, ITEMS + 1, (64, TINY.max_length))
    history_ids[0] = 0
    seen_ids = np.zeros((64, EXPORT.max_seen), np.int64)
    seen_ids[1, : ITEMS - 5] = np.arange(1, ITEMS - 4)
    return history_ids, seen_ids


def test_products_are_16_bits_and_all_else_is_float32(exported: Path) -> None:
    model = onnx.shape_inference.infer_shapes(
        onnx.load(exported / "ranker.onnx"), strict_mode=True, data_prop=True
    )
    graph = RankerGraph(model.graph)
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]
    } | {name: each.data_type for name, each in graph.constants.items()}
    *products, scores = (each for each in model.graph.node if each.op_type in ("MatMul", "Gemm"))
    assert len(products) > 8
    for product in products:
        assert {types[name] for name in product.input} == {TensorProto.FLOAT16}
    assert scores == graph.scores()
    assert graph.constants[graph.constant(scores.input[1])].data_type == TensorProto.FLOAT16
    assert types[scores.output[0]] == TensorProto.FLOAT
    assert graph.constants[graph.popularity()].data_type == TensorProto.FLOAT
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "Gemm", "Cast", "Gather"):
            read = {types.get(name) for name in [*node.input, *node.output]}
            assert TensorProto.FLOAT16 not in read, node.name


def test_masks_popularity_and_scores_keep_their_bits(
    exported: Path, requests: tuple[np.ndarray, np.ndarray]
) -> None:
    exact, half = (
        rank(open_session(exported / name), *requests)
        for name in ("ranker_fp32.onnx", "ranker.onnx")
    )
    np.testing.assert_array_equal(half[1][0], exact[1][0])  # popularity
    assert (half[1][1] <= MASKED_SCORE).sum() == EXPORT.k - 5
    assert np.isfinite(half[1]).all()
    scored = half[1][2:]
    assert (scored == scored.astype(np.float16)).mean() < 0.1  # no ties by rounding
    np.testing.assert_allclose(scored, exact[1][2:], atol=0.01)


def test_what_is_in_16_bits_is_not_lowered_again(exported: Path, tmp_path: Path) -> None:
    lower_products(exported / "ranker.onnx", tmp_path / "again.onnx", "fp16")
    assert onnx.load(tmp_path / "again.onnx") == onnx.load(exported / "ranker.onnx")


def test_gpus_serve_the_float16_graph(exported: Path, tmp_path: Path) -> None:
    assert graph_for_gpus(exported) == exported / "ranker.onnx"
    shutil.copyfile(exported / "ranker_fp32.onnx", tmp_path / "ranker.onnx")
    assert graph_for_gpus(tmp_path) == tmp_path / "ranker_fp32.onnx"


@pytest.mark.parametrize("order", [(HALF, CODED), (CODED, HALF)])
def test_float16_and_codes_go_in_either_order(order: tuple, tmp_path: Path) -> None:
    check_shapes(order, TINY)
    splits = load_windows(write_windows(tmp_path / "windows"))
    work = Work(random_model(), splits, EXPORT, tmp_path)
    candidate = Candidate(work.teacher)
    for step in order:
        candidate = take(step, candidate, work)
    graphs = write_graphs(candidate, work, tmp_path)
    graph = RankerGraph(onnx.load(graphs.served).graph)
    assert CODES in graph.constants
    assert has_half_products(graphs.served)
    histories = splits["test"].histories
    inputs = pad(histories, TINY.max_length), pad(histories, EXPORT.max_seen)
    exact, half = (rank(open_session(path), *inputs) for path in (graphs.exact, graphs.served))
    assert top_k_overlap(half[0], exact[0]) > 0.95
    grown = tmp_path / "grown.onnx"
    row = np.full((1, TINY.dim), 0.1, np.float32)
    append_rows(graphs.served, grown, NewRows(row, np.array([least_popular(graphs.served)]), 9.0))
    assert (rank(open_session(grown), *inputs)[0] == ITEMS + 1).any(axis=1).all()


@pytest.mark.parametrize(
    ("steps", "place"),
    [
        ([HALF, Int8ItemsStep()], r"steps\.1 \(quantise-items\)"),
        ([Int8ItemsStep(), HALF], r"steps\.1 \(quantise\)"),
        ([HALF, DistilStep(layers=1), Int8ItemsStep()], r"steps\.2 \(quantise-items\)"),
    ],
)
def test_float16_and_bytes_are_refused_as_the_yaml_is_read(steps: list, place: str) -> None:
    with pytest.raises(KuberecError, match=rf"{place}: .*TensorRT does not know.*kind: pq"):
        check_shapes(steps, TINY)


def test_float16_that_int8_replaces_goes_with_bytes() -> None:
    check_shapes([HALF, DistilStep(layers=1), QuantiseStep(), Int8ItemsStep()], TINY)


def test_a_row_that_float16_cannot_hold_is_refused(exported: Path, tmp_path: Path) -> None:
    row = np.full((1, TINY.dim), 7e4, np.float32)
    with pytest.raises(KuberecError, match=r"7e\+04, which the ranker's item table, in float16"):
        append_rows(
            exported / "ranker.onnx", tmp_path / "new.onnx", NewRows(row, np.zeros(1, np.float32))
        )


def test_a_weight_that_float16_cannot_hold_is_named(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported / "ranker_fp32.onnx")
    graph = RankerGraph(model.graph)
    table = graph.reader().input[0]
    graph.set(table, graph.array(table) * 1e7)
    onnx.save(model, tmp_path / "large.onnx")
    with pytest.raises(KuberecError, match=rf"'{table}' has .*take the step quantise's precision"):
        half_ranker(tmp_path / "large.onnx", tmp_path / "half.onnx")
    assert not (tmp_path / "half.onnx").exists()


def test_a_graph_of_an_earlier_release_is_refused(exported: Path, tmp_path: Path) -> None:
    """That of ONNX Runtime's converter, which casts what is behind the scores to and fro."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(exported / "ranker_fp32.onnx")
    blocked = [node.name for node in model.graph.node if node.op_type in BEHIND]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        half = convert_float_to_float16(model, keep_io_types=True, node_block_list=blocked)
    OnnxModel(half).topological_sort()
    onnx.save(half, tmp_path / "old.onnx")
    with pytest.raises(KuberecError, match=r"earlier release.*train again"):
        least_popular(tmp_path / "old.onnx")


def test_the_server_that_items_as_bytes_need_is_named(exported: Path, tmp_path: Path) -> None:
    assert needs_newer(exported / "ranker.onnx") == ""
    shutil.copyfile(exported / "ranker_fp32.onnx", tmp_path / "bytes.onnx")
    pack_items(tmp_path / "bytes.onnx", None, True)
    assert "Triton 2.58 (ONNX Runtime 1.22)" in needs_newer(tmp_path / "bytes.onnx")
