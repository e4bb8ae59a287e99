"""The two-stage ranker: exact where every cell is probed, near to it where few are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from recommender_data import TINY

from recommender import onnx_export
from recommender.agreement import TIE, Answers, agreement
from recommender.compression.candidate import Candidate, Form, Work
from recommender.compression.check import check_scoring, settled_scoring
from recommender.compression.graphs import write_graphs
from recommender.errors import KuberecError
from recommender.export import export_ranker, rank
from recommender.graph_trim import READ, trim_file
from recommender.item_cells import make_cells
from recommender.large_catalogue import LARGE, export_two_stage, wants_two_stages
from recommender.model import SequentialRecommender
from recommender.onnx_session import open_session
from recommender.ranker_rows import NewRows, append_rows, least_popular
from recommender.schema import MASKED_SCORE
from recommender.sequences import Split
from recommender.settings import (
    DistilStep,
    ExportConfig,
    Int8ItemsStep,
    ProductItemsStep,
    QuantiseStep,
)

ITEMS, K, SEEN = 400, 10, 6


@pytest.fixture(scope="module")
def model() -> SequentialRecommender:
    """Items around 20 points."""
    torch.manual_seed(1)
    found = SequentialRecommender(TINY, torch.zeros(ITEMS + 1, 0), torch.randn(ITEMS + 1))
    for weight in found.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    centres = torch.randn(20, TINY.dim)
    around = 0.2 * torch.randn(ITEMS + 1, TINY.dim)
    found.id_embedding.weight.data = centres[torch.arange(ITEMS + 1) % 20] + around
    return found.eval()


def config(**two_stage: object) -> ExportConfig:
    section = {"k": K, "max_seen": SEEN, "scoring": "two-stage"}
    return ExportConfig.model_validate(section | {"two_stage": {"cell_items": 24} | two_stage})


@pytest.fixture(scope="module")
def exact(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("exact") / "ranker.onnx"
    export_ranker(model, path, K, SEEN)
    return open_session(path)


def requests(rows: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """The first has no known item; what was read last was seen."""
    rng = np.random.default_rng(2)
    history = rng.integers(1, ITEMS + 1, (rows, TINY.max_length))
    for row in range(rows):
        history[row, : TINY.max_length - row % (TINY.max_length + 1)] = 0
    return history, history[:, -SEEN:]


def test_with_every_cell_probed_it_is_the_exact_ranker(model, exact, tmp_path) -> None:
    path = tmp_path / "ranker.onnx"
    export_two_stage(model, path, config(probes=ITEMS, int8=False))
    for inputs in (requests(), (requests()[0], np.zeros((64, SEEN), np.int64))):
        for trimmed in (False, True):
            if trimmed:
                trim_file(path, seen=True)
            expected, found = rank(exact, *inputs), rank(open_session(path), *inputs)
            compared = agreement(Answers(*expected), Answers(*found), TIE)
            assert compared["top_k_overlap"] == 1.0
            assert compared["max_abs_score_diff"] < 1e-4


def test_few_cells_of_bytes_find_nearly_all(model, exact, tmp_path) -> None:
    export_two_stage(model, tmp_path / "ranker.onnx", config(probes=8))
    inputs = requests()
    expected = rank(exact, *inputs)
    found = rank(open_session(tmp_path / "ranker.onnx"), *inputs)
    overlap = agreement(Answers(*expected), Answers(*found), TIE)["top_k_overlap"]
    assert 0.85 < overlap < 1  # some are in cells that are not looked at
    for items, seen in zip(found[0], inputs[1], strict=True):
        assert not set(items) & set(seen)
        assert 0 not in items
        assert len(set(items)) == K
    # Bytes and scales are all that differs in what is found.
    np.testing.assert_allclose(found[1][:, 0], expected[1][:, 0], rtol=0.05, atol=0.05)
    assert found[1][0].tolist() == expected[1][0].tolist()  # nobody's history: by popularity


def test_where_too_little_is_left_the_rest_is_padding(model, tmp_path) -> None:
    small = SequentialRecommender(TINY, torch.zeros(13, 0), torch.arange(13.0)).eval()
    path = tmp_path / "ranker.onnx"
    export_two_stage(small, path, config(probes=20, cell_items=5))
    history = np.array([[0] * 9 + [5], [0] * 10])
    seen = np.tile(np.arange(1, SEEN + 1), (2, 1))
    indices, scores = rank(open_session(path), history, seen)
    for row in range(2):
        assert sorted(indices[row, :6]) == list(range(7, 13))
        assert indices[row, 6:].tolist() == [0] * 4
        assert (scores[row, 6:] == MASKED_SCORE).all()


def test_probes_that_cannot_fill_an_answer_are_refused(model, tmp_path) -> None:
    widest = make_cells(model.item_table().detach().numpy()[1:], 10, 0).size.max()
    said = rf"two_stage\.probes = 1: .* of {widest} items at most, .* fewer than .* = 16: take \d"
    with pytest.raises(KuberecError, match=said):
        export_two_stage(model, tmp_path / "ranker.onnx", config(probes=1, cell_items=10))
    assert not list(tmp_path.iterdir())


def test_cells_are_small_have_every_item_once_and_keep_neighbours_together(model) -> None:
    rows = model.item_table().detach().numpy()[1:]
    cells = make_cells(rows, largest=24)
    assert cells.size.max() <= 24
    assert cells.size.min() >= 1
    assert sorted(cells.order) == list(range(ITEMS))
    spread = [
        rows[cells.order[s : s + n]].var(axis=0).sum() if n > 1 else 0.0
        for s, n in zip(cells.start, cells.size, strict=True)
    ]
    assert np.average(spread, weights=cells.size) < 0.2 * rows.var(axis=0).sum()
    same = make_cells(np.ones((100, 4), np.float32), largest=10)  # nothing to tell them apart by
    assert same.size.max() <= 10
    assert same.size.sum() == 100


def test_what_is_compressed_is_written_in_the_configs_stages(model, exact, tmp_path) -> None:
    """Exact for GPUs, whole; two stages and trimmed as served."""
    work = Work(model, {}, config(probes=8), tmp_path)
    graphs = write_graphs(Candidate(model), work, tmp_path)
    nodes = {name: onnx.load(path).graph.node for name, path in graphs.__dict__.items()}
    made = {name: {out for node in each for out in node.output} for name, each in nodes.items()}
    assert READ in made["served"]
    assert READ not in made["exact"]
    inputs = requests()
    whole = rank(exact, *inputs)[0]
    np.testing.assert_array_equal(rank(open_session(graphs.exact), *inputs)[0], whole)
    assert found_share(graphs.served, whole) > 0.85


def test_the_blocks_of_two_stages_in_int8(model, exact, tmp_path) -> None:
    """Their weights are bytes, what chooses the items is as it was, and answers are near."""
    rng = np.random.default_rng(4)
    histories = [rng.integers(1, ITEMS + 1, TINY.max_length) for _ in range(40)]
    split = Split([str(row) for row in range(40)], histories, np.ones(40, np.int64))
    work = Work(model, {"train": split, "valid": split}, config(probes=8), tmp_path)
    step = QuantiseStep(calibration_requests=64, max_clipped=0.1)
    graphs = write_graphs(Candidate(model, Form(quantised=step)), work, tmp_path)
    graph = onnx.load(graphs.served).graph
    integers = {each.name for each in graph.initializer if each.data_type == TensorProto.INT8}
    assert len([name for name in integers if name.startswith("model.backbone.blocks")]) >= 5
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    (compared,) = (n for n in graph.node if any(i.startswith("centroids") for i in n.input))
    assert [made_by.get(name) for name in compared.input].count("DequantizeLinear") == 0
    assert found_share(graphs.served, rank(exact, *requests())[0]) > 0.8
    assert {path.name for path in tmp_path.iterdir()} == {"ranker.onnx", "ranker_fp32.onnx"}


def found_share(path: Path, whole_BK: np.ndarray) -> float:
    found_BK = rank(open_session(path), *requests())[0]
    shares = [np.isin(a, b).mean() for a, b in zip(found_BK, whole_BK, strict=True)]
    return float(np.mean(shares))


@pytest.mark.parametrize(
    "step",
    [QuantiseStep(precision="float16"), Int8ItemsStep(), ProductItemsStep()],
    ids=lambda step: step.step,
)
def test_a_step_that_two_stages_have_no_use_for(step) -> None:
    """Named before any is taken; where the catalogue decides, the graph stays exact."""
    steps = [DistilStep(), step]
    with pytest.raises(KuberecError, match=rf"steps\.1 \({step.step}\): export\.scoring = two-st"):
        check_scoring(steps, config())
    check_scoring(steps, ExportConfig())
    assert settled_scoring(steps, ExportConfig(), LARGE + 1).scoring == "exact"


def test_auto_is_exact_up_to_a_million() -> None:
    steps = [DistilStep(), QuantiseStep()]
    check_scoring(steps, config())
    for items, scoring in ((LARGE, "exact"), (LARGE + 1, "two-stage")):
        settled = settled_scoring(steps, ExportConfig(), items)
        assert settled.scoring == scoring
        assert wants_two_stages(settled, items) is (scoring == "two-stage")
    assert settled_scoring(steps, config(), 10).scoring == "two-stage"
    assert settled_scoring(steps, ExportConfig(scoring="exact"), 10 * LARGE).scoring == "exact"


def test_new_items_are_refused_with_what_to_do(model, tmp_path) -> None:
    path = tmp_path / "ranker.onnx"
    export_two_stage(model, path, config(probes=8))
    new = NewRows(np.zeros((1, TINY.dim), np.float32), np.zeros(1, np.float32))
    with pytest.raises(KuberecError, match=r"two stages .* export\.scoring: exact"):
        append_rows(path, tmp_path / "more.onnx", new)
    with pytest.raises(KuberecError, match="two stages"):
        least_popular(path)


@pytest.mark.parametrize("scoring", ["exact", "two-stage"])
def test_graphs_too_large_for_one_file_are_trimmed_and_copied_as_folders(
    model, exact, tmp_path, monkeypatch, scoring
) -> None:
    monkeypatch.setattr(onnx_export, "EXTERNAL_BYTES", 0)
    work = Work(model, {}, config(probes=ITEMS, int8=False), tmp_path)
    work = replace(work, export=work.export.model_copy(update={"scoring": scoring}))
    graphs = write_graphs(Candidate(model), work, tmp_path)
    assert graphs.exact.is_dir()
    assert graphs.served.is_dir()
    inputs = requests()
    whole = Answers(*rank(exact, *inputs))
    for path in (graphs.exact, graphs.served):
        found = Answers(*rank(open_session(path), *inputs))
        assert agreement(whole, found, TIE)["top_k_overlap"] == 1.0
    trimmed = onnx.load(str(graphs.served / "model.onnx"), load_external_data=False).graph
    assert any(READ in node.output for node in trimmed.node)
    with pytest.raises(KuberecError, match="too large for one ONNX file"):
        least_popular(graphs.served / "model.onnx")  # as serving names it
    if scoring == "exact":
        with pytest.raises(KuberecError, match=r"400 items .* too large for one ONNX file"):
            write_graphs(Candidate(model, Form(int8_items=True)), work, tmp_path)
