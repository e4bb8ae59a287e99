"""What an engine is planned from, and the typed graph that TensorRT would get."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from timed_version import write_timed_version
from tiny_version import (
    MAX_LENGTH,
    MAX_SEEN,
    REQUESTS,
    K,
    build_tiny_ranker,
    catalogue,
    tiny_graphs,
    write_tiny_version,
)

from recommender.agreement import Answers, top_k_overlap
from recommender.compression.half import half_ranker
from recommender.errors import KuberecError
from recommender.onnx_session import open_session
from recommender.schema import MASKED_SCORE
from serving.handover import answers, looked_up
from serving.parity import golden_answers
from serving.settings import GpuConfig, TritonConfig
from serving.triton.configs import COMPUTE_CAPABILITIES, read_config
from serving.triton.engine.build import golden_inputs
from serving.triton.engine.graph import require_symmetric, sparse_weights, write_typed
from serving.triton.engine.plan import LARGEST_K, EnginePlan, Precision, Profile, plan_engine
from serving.triton.engine.record import EngineError, plan_name
from serving.triton.repository import GPU, GPU_GRAPH, TENSORRT, config_path, write_repository
from serving.version import ModelVersion, load_version, write_manifest

SETTINGS = TritonConfig(
    max_batch_size=48,
    preferred_batch_sizes=[4, 8],
    gpu=GpuConfig(precision="bf16", workspace_mib=64, instances=2),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    folder = tmp_path_factory.mktemp("tiny") / "v1"
    return load_version(write_tiny_version(folder, catalogue(), "v1", config=SETTINGS))


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> ModelVersion:
    return load_version(write_timed_version(tmp_path_factory.mktemp("timed") / "t1", "t1"))


def test_a_plan_says_what_the_settings_do(tiny: ModelVersion, tmp_path: Path) -> None:
    plan = plan_engine(tiny, timing_cache=tmp_path / "cache")
    assert plan.inputs == (
        Profile("history_ids", (1, MAX_LENGTH), (8, MAX_LENGTH), (48, MAX_LENGTH)),
        Profile("seen_ids", (1, MAX_SEEN), (8, MAX_SEEN), (48, MAX_SEEN)),
    )
    assert (plan.precision, plan.workspace_bytes, plan.k) == ("bf16", 64 * 2**20, K)
    assert plan.timing_cache == tmp_path / "cache"
    assert plan.graph == plan.exact == tiny.directory / "ranker/1/model.onnx"
    assert plan.graph_sha256 == tiny.files["ranker/1/model.onnx"]
    asked = plan_engine(tiny, "fp16", workspace_mib=7)
    assert (asked.precision, asked.workspace_bytes) == ("fp16", 7 * 2**20)


def test_times_are_an_input_with_a_profile(timed: ModelVersion) -> None:
    plan = plan_engine(timed)
    assert [each.tensor for each in plan.inputs] == ["history_ids", "seen_ids", "event_times"]
    # Nothing is preferred: tuned for the fullest batch.
    assert plan.inputs[2] == Profile("event_times", (1, 10), (64, 10), (64, 10))


def test_of_a_quantised_version_the_float_graph_is_built(tmp_path: Path) -> None:
    graphs = tiny_graphs(tmp_path / "graphs", catalogue())
    onnx.save(build_tiny_ranker(40, seed=3), tmp_path / "float.onnx")
    write_repository(tmp_path / "v", *graphs, gpu_ranker=tmp_path / "float.onnx")
    write_manifest(tmp_path / "v", "v1", golden_answers(tmp_path / "v", REQUESTS), {})
    version = load_version(tmp_path / "v")
    plan = plan_engine(version, "fp32")
    assert plan.graph == plan.exact == tmp_path / "v/ranker/1" / GPU_GRAPH
    int8 = plan_engine(version, "int8")
    assert (int8.graph.name, int8.exact.name) == ("model.onnx", GPU_GRAPH)


def test_of_a_float16_version_that_graph_is_built(tmp_path: Path) -> None:
    """As it is, whatever the settings' default says; its float32 weights did not travel."""
    lookup, ranker, decode = tiny_graphs(tmp_path / "graphs", catalogue())
    half = tmp_path / "half.onnx"
    half_ranker(ranker, half)
    write_repository(tmp_path / "v", lookup, half, decode, gpu_ranker=half)
    write_manifest(tmp_path / "v", "v1", golden_answers(tmp_path / "v", REQUESTS), {})
    version = load_version(tmp_path / "v")
    plan = plan_engine(version)
    assert (plan.precision, plan.graph, plan.exact) == ("fp16", *[plan.exact] * 2)
    assert plan.exact.name == GPU_GRAPH
    write_typed(plan, tmp_path / "typed.onnx")
    assert onnx.load(tmp_path / "typed.onnx") == onnx.load(half)
    for precision in ("fp32", "bf16"):
        with pytest.raises(EngineError, match=rf"{precision}: .*quantised to float16.*take fp16"):
            plan_engine(version, precision)


def test_triton_takes_an_engine_by_the_gpus_kind(tiny: ModelVersion) -> None:
    engine, gpu = (
        read_config(config_path(tiny.directory, "ranker", variant)) for variant in (TENSORRT, GPU)
    )
    assert (engine.platform, engine.backend) == ("tensorrt_plan", "tensorrt")
    assert dict(engine.cc_model_filenames) == {
        each: Path(plan_name(each)).name for each in COMPUTE_CAPABILITIES
    }
    assert not engine.parameters
    assert not engine.optimization.execution_accelerators.gpu_execution_accelerator
    for field in ("input", "output", "max_batch_size", "instance_group", "model_warmup"):
        assert getattr(engine, field) == getattr(gpu, field)


def test_a_version_of_before_and_lists_too_long_are_refused(tmp_path: Path) -> None:
    version = load_version(write_tiny_version(tmp_path / "v1", catalogue(), "v1"))
    long = version.model_copy(update={"k": LARGEST_K + 1})
    with pytest.raises(EngineError, match=r"export\.k = 3841 is more than the 3840 items"):
        plan_engine(long)
    (tmp_path / "v1/ranker/configs/tensorrt.pbtxt").unlink()
    with pytest.raises(EngineError, match="exported before engines were built ahead"):
        plan_engine(version)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["tiny", "timed"])
def test_a_typed_graph_answers_as_the_float_one(
    kind: str, precision: Precision, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    version: ModelVersion = request.getfixturevalue(kind)
    plan = plan_engine(version, precision)
    assert write_typed(plan, tmp_path / "typed.onnx") == []
    ids = golden_inputs(version)
    found, expected = answers(tmp_path / "typed.onnx", *ids), answers(plan.exact, *ids)
    close = 0.0 if precision == "fp32" else 0.02
    np.testing.assert_allclose(found.scores_BK, expected.scores_BK, rtol=close, atol=close)
    assert top_k_overlap(found.ids_BK, expected.ids_BK) > 0.9


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_products_are_16_bits_and_all_else_is_as_it_was(
    precision: Precision, timed: ModelVersion, tmp_path: Path
) -> None:
    plan = plan_engine(timed, precision)
    write_typed(plan, tmp_path / "typed.onnx")
    low = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "typed.onnx"), strict_mode=True)
    values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {each.name: each.data_type for each in model.graph.initializer}
    *products, scores = (node for node in model.graph.node if node.op_type in ("MatMul", "Gemm"))
    assert len(products) > 10
    assert {types[name] for name in [*scores.input, *scores.output]} == {TensorProto.FLOAT}
    made_by = {name: node for node in model.graph.node for name in node.output}
    assert types[made_by[scores.input[1]].input[0]] == low  # kept in 16 bits, summed up in 32
    assert {types[name] for node in products for name in node.input} == {low}
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "Gemm", "Cast", "Gather"):
            assert low not in {types.get(name) for name in node.input}, node.name
    assert types["scores"] == TensorProto.FLOAT
    weights = {name for node in products for name in node.input} & {
        each.name for each in model.graph.initializer
    }
    assert len(weights) > 5  # kept in 16 bits, once
    assert not {name.removesuffix(f"_as_{precision}") for name in weights} & {
        each.name for each in model.graph.initializer
    }


def test_seen_items_keep_their_masked_score_in_float16(tmp_path: Path) -> None:
    version = load_version(write_tiny_version(tmp_path / "v1", catalogue(5), "v1"))
    write_typed(plan_engine(version, "fp16"), tmp_path / "typed.onnx")
    history, seen = np.zeros((1, MAX_LENGTH), np.int64), np.zeros((1, MAX_SEEN), np.int64)
    seen[0, :5] = np.arange(1, 6)
    _, scores = open_session(tmp_path / "typed.onnx").run(
        ["item_indices", "scores"], {"history_ids": history, "seen_ids": seen}
    )
    assert (scores <= MASKED_SCORE * 0.9).all()
    assert np.isfinite(scores).all()


def test_a_weight_beyond_float16_is_named(tiny: ModelVersion, tmp_path: Path) -> None:
    model = onnx.load(tiny.directory / "ranker/1/model.onnx")
    (vectors,) = [each for each in model.graph.initializer if each.name == "vectors_t"]
    values = numpy_helper.to_array(vectors).copy()
    values[0, 1] = 70_000
    vectors.CopyFrom(numpy_helper.from_array(values, "vectors_t"))
    onnx.save(model, tmp_path / "large.onnx")
    plan = with_graph(plan_engine(tiny, "fp16"), tmp_path / "large.onnx")
    with pytest.raises(KuberecError, match=r"fp16: weight 'vectors_t' has 7e\+04.*take bf16"):
        write_typed(plan, tmp_path / "typed.onnx")
    write_typed(with_graph(plan_engine(tiny, "bf16"), tmp_path / "large.onnx"), tmp_path / "b.onnx")


def with_graph(plan: EnginePlan, graph: Path) -> EnginePlan:
    return replace(plan, graph=graph)


def test_an_item_table_of_codes_is_made_whole(tiny: ModelVersion, tmp_path: Path) -> None:
    """TensorRT has no uint8 inside a graph."""
    model = onnx.load(tiny.directory / "ranker/1/model.onnx")
    (vectors,) = [each for each in model.graph.initializer if each.name == "vectors"]
    rows = numpy_helper.to_array(vectors)
    model.graph.initializer.remove(vectors)
    codes = numpy_helper.from_array(np.arange(len(rows), dtype=np.uint8), "codes")
    model.graph.initializer.extend([codes, numpy_helper.from_array(rows, "book")])
    model.graph.node.insert(0, helper.make_node("Cast", ["codes"], ["wide"], to=TensorProto.INT32))
    model.graph.node.insert(1, helper.make_node("Gather", ["book", "wide"], ["vectors"]))
    onnx.save(model, tmp_path / "codes.onnx")
    plan = with_graph(plan_engine(tiny, "fp32"), tmp_path / "codes.onnx")
    write_typed(plan, tmp_path / "typed.onnx")
    made = onnx.load(tmp_path / "typed.onnx")
    assert TensorProto.UINT8 not in {each.data_type for each in made.graph.initializer}
    assert {node.domain for node in made.graph.node} <= {"", "ai.onnx"}
    ids = looked_up(tiny.directory / "lookup/1/model.onnx", REQUESTS)
    found, expected = (answers(path, *ids) for path in (tmp_path / "typed.onnx", plan.exact))
    assert (found.ids_BK == expected.ids_BK).all()


def quantised(version: ModelVersion, target: Path, symmetric: bool) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    ids = looked_up(version.directory / "lookup/1/model.onnx", REQUESTS)

    class Requests(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = [dict(zip(("history_ids", "seen_ids"), ids, strict=True))]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self.left.pop() if self.left else None

    quantize_static(
        str(version.directory / "ranker/1/model.onnx"),
        str(target),
        Requests(),
        op_types_to_quantize=["MatMul"],
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
    )
    return target


def test_int8_is_taken_symmetric_and_explicit_alone(tiny: ModelVersion, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"not quantised.*`quantise` is no way out"):
        write_typed(plan_engine(tiny, "int8"), tmp_path / "typed.onnx")
    asymmetric = quantised(tiny, tmp_path / "asymmetric.onnx", symmetric=False)
    with pytest.raises(EngineError, match=r"symmetrically.*\n  \S+ \(uint8, \d+\)") as refused:
        require_symmetric(asymmetric)
    assert "on a GPU take fp16, bf16 or fp32" in str(refused.value)
    good = quantised(tiny, tmp_path / "symmetric.onnx", symmetric=True)
    write_typed(with_graph(plan_engine(tiny, "int8"), good), tmp_path / "typed.onnx")
    assert onnx.load(tmp_path / "typed.onnx") == onnx.load(good)
    model = onnx.load(good)
    model.graph.node[0].domain = "com.microsoft"
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(EngineError, match=r"com\.microsoft\..*which TensorRT does not know"):
        require_symmetric(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_that_are_2_of_4_are_found(transposed: bool, tmp_path: Path) -> None:
    """By the axis that is summed over; whether the exporter has turned them or not."""
    rng = np.random.default_rng(0)
    sparse_OI = rng.normal(size=(6, 8)).astype(np.float32)
    sparse_OI[:, ::4] = sparse_OI[:, 1::4] = 0
    dense_OI = rng.normal(size=(8, 6)).astype(np.float32)
    nodes, constants = [], []
    for name, weight, given in (("sparse", sparse_OI, "x"), ("dense", dense_OI, "sparse_y")):
        kept = weight if transposed else weight.T.copy()
        constants.append(numpy_helper.from_array(kept, name))
        output = f"{name}_y"
        if transposed:
            nodes.append(helper.make_node("Gemm", [given, name], [output], transB=1))
        else:
            nodes.append(helper.make_node("MatMul", [given, name], [output]))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "two",
        [info("x", TensorProto.FLOAT, ["B", 8])],
        [info("dense_y", TensorProto.FLOAT, ["B", 8])],
        constants,
    )
    onnx.save(helper.make_model(graph), tmp_path / "two.onnx")
    assert sparse_weights(tmp_path / "two.onnx") == ["sparse"]


def test_answers_are_of_all_golden_requests(timed: ModelVersion) -> None:
    ids = golden_inputs(timed)
    found: Answers = answers(plan_engine(timed).exact, *ids)
    assert found.ids_BK.shape == (len(timed.golden()), timed.k)
