"""The step quantise-items: codes and bytes for the item table, on a small ring of items."""

import copy
import math
import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import TypeAdapter, ValidationError
from recommender_data import ITEMS, TINY, random_model, vocabulary, write_windows

from recommender.agreement import top_k_overlap
from recommender.compression.candidate import Candidate, Work
from recommender.compression.distill import make_student
from recommender.compression.graphs import write_graphs
from recommender.compression.product_quantiser import fit_codebooks
from recommender.compression.quantise_items import quantise_items, with_codes
from recommender.compression.shapes import check_items_shape
from recommender.compression.steps import take
from recommender.errors import KuberecError
from recommender.export import Ranker, export_ranker, rank
from recommender.item_codes import ItemCodes
from recommender.item_graphs import pack_items
from recommender.model import load_model, save_model
from recommender.new_items import fit_item_map, ids_parts
from recommender.onnx_session import open_session
from recommender.ranker_graph import CODEBOOKS, CODES, INT8, SCALES, RankerGraph
from recommender.ranker_rows import table_size
from recommender.row_codes import nearest_centroids, to_int8
from recommender.sequences import load_windows, pad
from recommender.settings import (
    DistilStep,
    ExportConfig,
    Int8ItemsStep,
    ProductItemsStep,
    QuantiseStep,
    RecoveryConfig,
)
from recommender.settings.compression import Step

EXPORT = ExportConfig(k=12, max_seen=32)
UNTAUGHT = RecoveryConfig(epochs=0)
EXACT = ProductItemsStep(subvectors=4, centroids=ITEMS, recovery=UNTAUGHT)
COARSE = ProductItemsStep(subvectors=4, centroids=8, recovery=UNTAUGHT)
SHAPES = {
    "sum": TINY,
    "gate": TINY.model_copy(update={"fusion": "gate"}),
    "cosine": TINY.model_copy(update={"similarity": "cosine"}),
}
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_windows(write_windows(tmp_path_factory.mktemp("windows")))


@pytest.fixture
def work(splits, tmp_path):
    return Work(random_model(), splits, EXPORT, tmp_path)


@pytest.fixture(scope="module")
def requests(splits):
    histories = splits["test"].histories
    return pad(histories, TINY.max_length), pad(histories, EXPORT.max_seen)


def exact_codes(model):
    """Codes that lose nothing: there are as many centroids as items."""
    return with_codes(model, EXACT)


def rebuilt(table: np.ndarray, books: np.ndarray) -> np.ndarray:
    codes = nearest_centroids(table, books)
    return books[np.arange(len(books)), codes].reshape(table.shape)


def test_as_many_centroids_as_distinct_rows_lose_nothing():
    distinct = RNG.normal(size=(7, 12)).astype(np.float32)
    table = distinct[RNG.integers(0, 7, 50)]
    np.testing.assert_array_equal(rebuilt(table, fit_codebooks(table, 3, 7, seed=0)), table)
    assert not np.array_equal(rebuilt(table, fit_codebooks(table, 3, 5, seed=0)), table)


def test_the_error_falls_with_subvectors_and_with_centroids():
    table = RNG.normal(size=(300, 16)).astype(np.float32)

    def error(subvectors: int, centroids: int) -> float:
        return float(
            np.square(rebuilt(table, fit_codebooks(table, subvectors, centroids, 0)) - table).mean()
        )

    assert error(1, 16) > error(2, 16) > error(4, 16) > error(8, 16) > 0
    assert error(4, 4) > error(4, 16) > error(4, 64)


def test_the_same_seed_gives_the_same_codebooks():
    table = RNG.normal(size=(2000, 8)).astype(np.float32)
    # 16 centroids: in batches; 64: all rows in every round.
    for centroids in (16, 64):
        first, second = (fit_codebooks(table, 2, centroids, seed=3) for _ in range(2))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_of_codes_reads_rows_as_its_table_and_comes_back_from_disk(shape, tmp_path):
    model = with_codes(random_model(SHAPES[shape]), COARSE)
    index = torch.tensor([[0, 3], [ITEMS, 3]])
    torch.testing.assert_close(model.item_rows(index), model.item_table()[index])
    assert len(model.item_table()[1:].unique(dim=0)) > 1
    save_model(model, vocabulary(), tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.item_codes.codes.dtype == torch.uint8
    torch.testing.assert_close(loaded.item_table(), model.item_table(), rtol=0, atol=0)
    trained = {name for name, weight in loaded.named_parameters() if weight.requires_grad}
    assert "item_codes.codebooks" in trained
    assert not {name for name in trained if name.startswith(("text_projection", "gate"))}


def test_codes_of_all_rows_change_no_score():
    model = random_model()
    histories = torch.tensor([[0, 0, 3, 4, 5], [1, 2, 9, 9, 30]])
    torch.testing.assert_close(exact_codes(model)(histories)[:, 1:], model(histories)[:, 1:])


@pytest.mark.parametrize("shape", SHAPES)
def test_new_items_are_told_of_codes_as_of_the_table(shape):
    """The ids' parts, and so the map from texts to rows, are what they were."""
    model = random_model(SHAPES[shape])
    coded = exact_codes(model)
    np.testing.assert_allclose(ids_parts(coded), ids_parts(model), rtol=1e-4, atol=1e-4)
    texts = RNG.normal(size=(3, model.text_vectors.shape[1])).astype(np.float32)
    ours, theirs = (fit_item_map(each).rows(texts) for each in (coded, model))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A ranker of the exporter's, with its table in float32."""
    path = tmp_path_factory.mktemp("exported") / "ranker.onnx"
    export_ranker(random_model(), path, EXPORT.k, EXPORT.max_seen)
    return path


def packed(source, folder, *arguments):
    """A copy of `source` with its items packed, and its graph."""
    path = folder / "packed.onnx"
    shutil.copyfile(source, path)
    pack_items(path, *arguments)
    return path, graph_of(path)


def graph_of(path):
    return RankerGraph(onnx.load(str(path)).graph)


def large_constants(graph, items: int = ITEMS) -> dict[str, tuple[int, ...]]:
    """Those as long as the table, but for log popularity."""
    found = {name: tuple(each.dims) for name, each in graph.constants.items()}
    found.pop(graph.popularity())
    kept = (CODES, INT8, SCALES)  # which may be filled up
    return {name: dims for name, dims in found.items() if items + 1 in dims or name in kept}


def test_the_graph_of_codes_has_them_once_and_answers_as_torch(exported, requests, tmp_path):
    model = with_codes(random_model(), COARSE)
    path, graph = packed(exported, tmp_path, model.item_codes)
    assert large_constants(graph) == {CODES: (ITEMS + 1, 4)}
    assert graph.array(CODES).dtype == np.uint8
    assert graph.array(CODEBOOKS).shape == (4 * 8, TINY.dim // 4)
    assert table_size(path) == (ITEMS, TINY.dim)
    _, scores = rank(open_session(path), *requests)
    with torch.inference_mode():
        expected = Ranker(model, EXPORT.k)(*map(torch.from_numpy, requests))
    np.testing.assert_allclose(scores, expected[1].numpy(), rtol=1e-4, atol=1e-4)


def bare_ranker(table_ND: np.ndarray, path) -> np.ndarray:
    """A graph whose hidden state is the mean of a history's rows; its requests, [32, 3]."""
    constants = {"table": table_ND, "table_T": table_ND.T, "k": np.array([5]), "zero": np.array(0)}
    constants["log_popularity"] = np.zeros(len(table_ND), np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "history_ids"], ["rows"], "reader"),
            helper.make_node("ReduceMean", ["rows"], ["hidden"], axes=[1], keepdims=0),
            helper.make_node("MatMul", ["hidden", "table_T"], ["products"], "scorer"),
            helper.make_node("Greater", ["history_ids", "zero"], ["known"]),
            helper.make_node("Cast", ["known"], ["counted"], to=TensorProto.INT32),
            helper.make_node("ReduceMax", ["counted"], ["most"], axes=[1], keepdims=1),
            helper.make_node("Cast", ["most"], ["any"], to=TensorProto.BOOL),
            helper.make_node("Where", ["any", "products", "log_popularity"], ["all"]),
            helper.make_node("TopK", ["all", "k"], ["scores", "item_indices"]),
        ],
        "bare",
        [value("history_ids", TensorProto.INT64, ["B", "L"])],
        [value("scores", TensorProto.FLOAT, ["B", 5])],
        [
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in constants.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(path))
    return RNG.integers(1, len(table_ND), (32, 3))


def bare_scores(table_ND: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return -np.sort(-(table_ND[ids].mean(axis=1) @ table_ND.T), axis=1)[:, :5]


def run(path, ids: np.ndarray) -> np.ndarray:
    return open_session(path).run(["scores"], {"history_ids": ids})[0]


def coded_table(table_ND: np.ndarray, pieces: int, centroids: int) -> tuple[ItemCodes, np.ndarray]:
    books = fit_codebooks(table_ND, pieces, centroids, seed=0)
    codes = nearest_centroids(table_ND, books)
    rows = books[np.arange(pieces), codes].reshape(table_ND.shape)
    return ItemCodes(torch.from_numpy(codes), torch.from_numpy(books)), rows


def test_a_file_is_as_large_as_computed(tmp_path):
    items, dim = 2000, 64
    table = RNG.normal(size=(items + 1, dim)).astype(np.float32)
    source = tmp_path / "bare.onnx"
    bare_ranker(table, source)
    rest = source.stat().st_size - 2 * table.nbytes
    codes, _ = coded_table(table, 8, 16)
    # All but the numbers: nodes, names and shapes.
    for arguments, bytes_ in (
        ((codes,), (items + 1) * 8 + 16 * dim * 4),
        ((codes, True), (items + 1) * 8 + 16 * dim * 4),
        ((None, True), (items + 1) * (dim + 4)),
    ):
        path, _ = packed(source, tmp_path, *arguments)
        assert path.stat().st_size - rest == pytest.approx(bytes_, abs=3000)


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("dim", [16, 48, 256, 512])
def test_bytes_of_every_width_are_there_once(dim, coded, tmp_path):
    """Of rows that are several blocks of the product, or fill one, given or made of codes."""
    table = RNG.normal(size=(41, dim)).astype(np.float32)
    ids = bare_ranker(table, tmp_path / "bare.onnx")
    codes, rows = coded_table(table, 4, 40) if coded else (None, table)
    path, graph = packed(tmp_path / "bare.onnx", tmp_path, codes, True)
    assert set(large_constants(graph, 40)) == ({CODES} if coded else {INT8, SCALES})
    assert table_size(path) == (40, dim)
    expected = bare_scores(rows, ids)
    small = run(path, ids)
    assert 0 < np.abs(small - expected).max() < 0.02 * np.abs(expected).max()
    # Every request alone is answered as among others.
    alone = np.concatenate([run(path, ids[row : row + 1]) for row in range(len(ids))])
    np.testing.assert_allclose(alone, small, rtol=1e-5, atol=1e-6)


def test_codes_of_cosines_are_brought_to_length_one(tmp_path):
    table = RNG.normal(size=(41, 16)).astype(np.float32)
    ids = bare_ranker(table, tmp_path / "bare.onnx")
    codes, rows = coded_table(table, 4, 8)
    path, _ = packed(tmp_path / "bare.onnx", tmp_path, codes, False, True)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(run(path, ids), bare_scores(rows, ids), rtol=1e-5, atol=1e-6)


def test_steps_go_in_any_order(work, requests, tmp_path):
    """The items' bytes are made of their codes, beside INT8 weights, whichever came first."""
    steps = [QuantiseStep(calibration_requests=64), Int8ItemsStep(), EXACT]
    candidates = []
    for order in ((0, 1, 2), (2, 1, 0)):
        candidate = Candidate(work.teacher)
        for place in order:
            candidate = take(steps[place], candidate, work)
        candidates.append(candidate)
    first, second = candidates
    assert first.form == second.form
    torch.testing.assert_close(first.model.state_dict(), second.model.state_dict())
    graphs = write_graphs(first, work, tmp_path)
    graph = graph_of(graphs.served)
    assert set(large_constants(graph)) == set(large_constants(graph_of(graphs.exact))) == {CODES}
    assert "MatMulNBits" in {node.op_type for node in graph.graph.node}
    assert any(node.op_type == "DequantizeLinear" for node in graph.graph.node)
    exact, small = (rank(open_session(path), *requests) for path in (graphs.exact, graphs.served))
    assert top_k_overlap(small[0], exact[0]) > 0.9


def test_a_byte_is_at_most_half_a_scale_off():
    table = RNG.normal(size=(200, 32)).astype(np.float32) * RNG.exponential(size=(200, 1))
    table[5] = 0
    table = table.astype(np.float32)
    codes, scales = to_int8(table)
    assert codes.dtype == np.uint8
    assert codes.shape == (200, 1, 32)
    back = scales * (codes.reshape(200, 32).astype(np.float32) - 128)
    assert (np.abs(back - table) <= scales / 2 * (1 + 1e-5)).all()
    np.testing.assert_allclose(scales[:, 0], np.maximum(np.abs(table).max(axis=1) / 127, 1e-12))


def test_recovery_brings_codes_nearer_to_the_teacher(splits, tmp_path):
    work = Work(random_model(), splits, EXPORT, tmp_path)
    step = ProductItemsStep(
        subvectors=2,
        centroids=12,
        recovery=RecoveryConfig(epochs=4, batch_size=8, learning_rate=0.005, threads=1),
    )
    before = with_codes(work.teacher, step)
    after = quantise_items(Candidate(work.teacher), step, work)
    histories = torch.from_numpy(pad(splits["test"].histories, TINY.max_length))

    def divergence(model) -> float:
        """KL of the next item's distribution from the teacher's, on unseen histories."""
        with torch.inference_mode():
            ours, theirs = (m(histories)[:, 1:].log_softmax(-1) for m in (model, work.teacher))
        return float((theirs.exp() * (theirs - ours)).sum(-1).mean())

    assert divergence(after.model) < 0.5 * divergence(before)
    assert torch.equal(after.model.item_codes.codes, before.item_codes.codes)
    assert not torch.equal(after.model.item_codes.codebooks, before.item_codes.codebooks)
    assert len(after.curve) == 4


def test_a_student_as_wide_keeps_the_codes_and_a_narrower_is_refused():
    coded = with_codes(random_model(), COARSE)
    student = make_student(coded, DistilStep(layers=1, heads=2))
    torch.testing.assert_close(student.item_table(), coded.item_table(), rtol=0, atol=0)
    student.item_codes.codebooks.data.zero_()
    assert coded.item_codes.codebooks.abs().max() > 0
    with pytest.raises(KuberecError, match="put quantise-items behind distil"):
        make_student(coded, DistilStep(layers=1, dim=8, heads=1))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (ProductItemsStep(subvectors=5), "subvectors = 5 does not divide dim = 16"),
        (ProductItemsStep(subvectors=4, centroids=31), "centroids = 31 is more than the 30 items"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(step, message, work):
    with pytest.raises(KuberecError, match=message):
        quantise_items(Candidate(work.teacher), step, work)


def test_bytes_need_whole_blocks():
    with pytest.raises(KuberecError, match=r"16 numbers at a time, and dim = 24"):
        check_items_shape(Int8ItemsStep(), 24)
    check_items_shape(Int8ItemsStep(), 48)


def test_nan_and_a_second_quantisation_are_refused(work):
    broken = copy.deepcopy(work.teacher)
    with torch.no_grad():
        broken.id_embedding.weight[3, 2] = math.nan
    for step in (COARSE, Int8ItemsStep()):
        with pytest.raises(KuberecError, match="id_embedding"):
            quantise_items(Candidate(broken), step, work)
    with pytest.raises(KuberecError, match="codes already"):
        quantise_items(Candidate(with_codes(work.teacher, COARSE)), COARSE, work)


def test_the_kind_chooses_the_settings():
    read = TypeAdapter(Step).validate_python
    assert read({"step": "quantise-items", "kind": "int8-rows"}) == Int8ItemsStep()
    found = read({"step": "quantise-items", "kind": "pq", "subvectors": 8})
    assert found == ProductItemsStep(subvectors=8)
    assert read(found.model_dump(exclude_none=True)) == found
    with pytest.raises(ValidationError, match=r"int8-rows.*pq"):
        read({"step": "quantise-items", "kind": "opq"})
    with pytest.raises(ValidationError, match="less than or equal to 256"):
        read({"step": "quantise-items", "kind": "pq", "centroids": 300})
