"""Every exported graph: of any length, portable, the same bytes, of an opset that servers know."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from pydantic import ValidationError
from recommender_data import ITEMS, TINY, random_model

from recommender import onnx_export
from recommender.errors import KuberecError
from recommender.export import export_ranker, rank, torch_onnx_parity
from recommender.graph_trim import READ, trim_file, trim_padding
from recommender.onnx_session import graph_file, open_session
from recommender.opsets import SERVED_UP_TO, check_served
from recommender.settings import ExportConfig, ModelConfig
from serving.triton.repository import read_shapes

K, SEEN = 8, 20
GAPS = ModelConfig.model_validate(TINY.model_dump() | {"time": "gaps"})


@pytest.fixture(scope="module")
def model():
    return random_model(GAPS)


@pytest.fixture(scope="module")
def ranker(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "ranker.onnx"
    export_ranker(model, path, K, SEEN)
    return path


def requests(length: int, rows: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Histories of 0 to `length` items, seen by nobody, days apart."""
    rng = np.random.default_rng(4)
    history = rng.integers(1, ITEMS + 1, (rows, length))
    for row in range(rows):
        history[row, : length - row * length // (rows - 1)] = 0
    times = 1_700_000_000 + np.cumsum(rng.integers(1, 10**6, (rows, length)), axis=1)
    return history, np.zeros((rows, 3), np.int64), np.where(history > 0, times, 0)


@pytest.mark.parametrize("length", [1, 4, TINY.max_length])
def test_histories_of_any_length_and_any_number_of_seen_items(model, ranker, length) -> None:
    parity = torch_onnx_parity(model, ranker, *requests(length))
    assert parity["top_k_overlap"] == 1.0
    assert parity["max_abs_score_diff"] < 1e-4


def test_the_file_is_portable_and_knows_nothing_of_who_wrote_it(ranker) -> None:
    written = onnx.load(ranker)
    assert [each.domain for each in written.opset_import] == [""]
    assert {node.domain for node in written.graph.node} == {""}
    assert not [node.name for node in written.graph.node if node.doc_string or node.metadata_props]
    assert b"recommender/" not in ranker.read_bytes()
    # Products read weights as they lie there: a quantiser takes nothing else.
    assert not {n.op_type for n in written.graph.node} & {"GatherND", "Loop", "If"}


def test_the_same_model_is_the_same_bytes_also_as_a_folder(
    model, ranker, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(onnx_export, "EXTERNAL_BYTES", 1000)
    export_ranker(model, tmp_path / "large", K, SEEN)
    assert sorted(path.name for path in (tmp_path / "large").iterdir()) == [
        "model.onnx",
        "weights.bin",
    ]
    assert torch_onnx_parity(model, tmp_path / "large", *requests(5))["top_k_overlap"] == 1.0
    whole = onnx.load(str(graph_file(tmp_path / "large")))
    for tensor in whole.graph.initializer:
        tensor.ClearField("data_location")
        del tensor.external_data[:]
    small = onnx.load(ranker)
    assert whole.graph.node == small.graph.node
    values = [{t.name: t.raw_data for t in each.graph.initializer} for each in (whole, small)]
    assert values[0] == values[1]


def test_padding_of_a_whole_batch_is_cut_off(model, ranker, tmp_path) -> None:
    trimmed = tmp_path / "trimmed.onnx"
    graph = onnx.load(ranker)
    trim_padding(graph)
    trim_padding(graph)  # a second time does nothing
    graph.graph.output.append(helper.make_tensor_value_info(READ, TensorProto.INT64, ["B", "l"]))
    onnx.checker.check_model(graph)
    onnx.save(graph, trimmed)
    session = open_session(trimmed)
    history, seen, times = requests(TINY.max_length)
    lengths = (history > 0).sum(axis=1)
    for longest in (0, 1, 3, TINY.max_length):
        rows = lengths <= longest
        given = {
            "history_ids": history[rows],
            "seen_ids": seen[rows],
            "event_times": times[rows],
        }
        indices, scores, read = session.run(None, given)
        assert read.shape[1] == max(lengths[rows].max(), 1)
        whole = rank(open_session(ranker), *given.values())
        np.testing.assert_allclose(scores, whole[1], rtol=1e-5, atol=1e-5)
        assert (indices == whole[0]).all()


def test_a_short_history_is_no_warning(ranker, tmp_path, capfd) -> None:
    """ONNX Runtime warns where a tensor is not as large as the graph says, at every request."""
    path = tmp_path / "ranker.onnx"
    path.write_bytes(ranker.read_bytes())
    trim_file(path)
    options = ort.SessionOptions()
    options.log_severity_level = 2  # as by default
    history, seen, times = requests(TINY.max_length)
    rank(ort.InferenceSession(path, options), history, seen, times)
    rank(ort.InferenceSession(path, options), history[:3], seen[:3], times[:3])
    assert capfd.readouterr().err == ""


def test_an_opset_that_no_server_reads_is_refused_before_anything_is_done(model, tmp_path) -> None:
    newer = SERVED_UP_TO + 1
    both = rf"opset {newer} is newer than opset {SERVED_UP_TO}.*Triton"
    with pytest.raises(ValidationError, match=both):
        ExportConfig(opset=newer)
    with pytest.raises(KuberecError, match=both):
        export_ranker(model, tmp_path / "ranker.onnx", K, SEEN, opset=newer)
    with pytest.raises(ValidationError, match="opset 17 is older than opset 18"):
        ExportConfig(opset=17)
    with pytest.raises(KuberecError, match="IR 11; the servers read up to IR 10"):
        check_served({"": 18}, 11, "the graph")
    value = helper.make_tensor_value_info("item_ids", TensorProto.STRING, ["B", K])
    graph = helper.make_graph([helper.make_node("Identity", ["item_ids"], ["b"])], "g", [value], [])
    strange = helper.make_model(graph, opset_imports=[helper.make_opsetid("", newer)])
    onnx.save(strange, tmp_path / "new.onnx")
    with pytest.raises(KuberecError, match=rf"opset {newer}; the servers read up to opset"):
        read_shapes(tmp_path / "new.onnx", tmp_path / "new.onnx", tmp_path / "new.onnx")


def test_the_newest_opset_that_servers_read_can_be_asked_for(model, tmp_path) -> None:
    export_ranker(model, tmp_path / "ranker.onnx", K, SEEN, opset=SERVED_UP_TO)
    assert onnx.load(tmp_path / "ranker.onnx").opset_import[0].version == SERVED_UP_TO
    trim_file(tmp_path / "ranker.onnx")
    parity = torch_onnx_parity(model, tmp_path / "ranker.onnx", *requests(TINY.max_length))
    assert parity["top_k_overlap"] == 1.0


def test_a_graph_of_fixed_length_is_not_trimmed() -> None:
    value = helper.make_tensor_value_info("history_ids", TensorProto.INT64, ["B", 10])
    graph = helper.make_graph([], "fixed", [value], [])
    with pytest.raises(ValueError, match="fixed length"):
        trim_padding(helper.make_model(graph))


def test_weights_that_are_read_transposed_lie_so(model, ranker) -> None:
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(ranker).graph.initializer}
    table = model.item_table().detach()
    torch.testing.assert_close(torch.from_numpy(arrays["table"].copy()), table)
    torch.testing.assert_close(torch.from_numpy(arrays["table_transposed"].copy()), table.T)
