"""A list of steps: told what is wrong with it before the first begins; in any order it works."""

import pytest
import torch
from recommender_data import TINY, random_model, write_windows

from pipelines.config import ConfigError, load_config
from recommender.agreement import top_k_overlap
from recommender.compression.candidate import Candidate, Work
from recommender.compression.check import check_shapes, check_steps
from recommender.compression.graphs import write_graphs
from recommender.compression.sparsity import block_linears, is_two_of_four
from recommender.compression.steps import take
from recommender.errors import KuberecError
from recommender.export import rank, torch_onnx_parity
from recommender.onnx_session import open_session
from recommender.sequences import load_windows, pad
from recommender.settings import BlockShape, CompressionConfig, ExportConfig, ModelConfig

BASE = TINY.model_dump() | {"dim": 64, "heads": 2, "layers": 2}
PRUNE = {"step": "prune", "layers": 1, "feedforward": 0.5}
SPARSE = {"step": "sparsify", "recovery": {"epochs": 1}}
DISTIL = {"step": "distil", "epochs": 1}
QUANTISE = {"step": "quantise", "calibration_requests": 64, "qat": "never", "max_clipped": 1}
BYTES = {"step": "quantise-items", "kind": "int8-rows"}
CODES = {"step": "quantise-items", "kind": "pq"}


def config(*steps: dict) -> CompressionConfig:
    return CompressionConfig.model_validate({"steps": steps})


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_windows(write_windows(tmp_path_factory.mktemp("windows"), users=16))


@pytest.mark.parametrize(
    ("changes", "steps", "message"),
    [
        ({}, [DISTIL, PRUNE | {"layers": 2}], r"steps.1 \(prune\): layers: 2 are .* there are 1"),
        ({}, [PRUNE, PRUNE | {"layers": 0.4}], r"steps.1 \(prune\): layers: .* 1 leaves none"),
        ({}, [{"step": "prune", "heads": 0.2}], r"heads: a share of 0.2 of 2 leaves none.* 0.25"),
        ({}, [{"step": "prune", "heads": 3}], "heads: 3 are to be kept, but there are 2"),
        ({}, [{"step": "prune", "feedforward": 0.001}], "feedforward: .* 64 leaves none"),
        (
            {},
            [{"step": "prune", "heads": 0.3, "scope": "global"}],
            "heads: a share of 0.3 of 4 leaves 1, and each of the 2 blocks needs one",
        ),
        ({"backbone": "hstu"}, [PRUNE], "feedforward: backbone hstu has no MLP"),
        ({}, [SPARSE, PRUNE], r"steps.1 \(prune\): .* put prune before sparsify"),
        ({}, [SPARSE, DISTIL], r"steps.1 \(distil\): .* put sparsify behind distil"),
        ({}, [PRUNE, SPARSE], r"steps.1 \(sparsify\): the MLP's width of block 0 is 32"),
        (
            {},
            [{"step": "prune", "heads": 0.5, "scope": "global"}, SPARSE],
            r"steps.1 \(sparsify\): .* give it scope: layer",
        ),
        ({}, [DISTIL | {"dim": 65}], r"steps.0 \(distil\): dim: 65 is no multiple of heads"),
        ({}, [PRUNE, DISTIL | {"layers": 9}], r"steps.1 \(distil\): the student has .* larger"),
        (
            {},
            [DISTIL | {"dim": 128, "layers": 3}],
            r"steps.0 \(distil\): the student is larger .*dim 128 of 64, layers 3 of 2",
        ),
        (
            {},
            [{"step": "prune", "heads": 0.5, "scope": "global"}, DISTIL],
            r"steps.1 \(distil\): .* unlike: give heads and feedforward",
        ),
        (
            {},
            [{"step": "prune", "heads": 0.5, "scope": "global"}, {"step": "prune", "heads": 1}],
            r"steps.1 \(prune\): .* cannot be cut again",
        ),
        ({}, [PRUNE, DISTIL | {"heads": 1}], r"steps.1 \(distil\): heads, feedforward: prune has"),
        ({}, [QUANTISE, QUANTISE], r"steps.1 \(quantise\): nothing was trained since the last"),
        ({}, [BYTES, BYTES], r"steps.1 \(quantise-items\): the items are bytes by then"),
        ({}, [BYTES, DISTIL | {"dim": 24}], r"steps.1 \(distil\): .* 16 numbers at a time"),
        ({}, [CODES | {"subvectors": 5}], r"steps.0 \(quantise-items\): kind: pq: subvectors = 5"),
        (
            {},
            [DISTIL, QUANTISE | {"calibration_requests": 10**6}],
            r"steps.1 \(quantise\): calibration_requests: 1000000 asked for",
        ),
        ({}, [PRUNE, {"step": "quantise", "precision": "bfloat16"}], r"steps.1 \(quantise\): "),
    ],
)
def test_a_mistake_in_a_later_step_is_told_first(changes, steps, message, splits):
    model = random_model(ModelConfig.model_validate(BASE | changes))
    with pytest.raises(KuberecError, match=message):
        check_steps(config(*steps), model, splits)


def test_a_sound_list_is_walked_through_at_once(splits):
    model = random_model(ModelConfig.model_validate(BASE))
    steps = config(PRUNE | {"feedforward": None}, SPARSE, QUANTISE)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    check_steps(steps, model, splits)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert model.config.layers == 2


def test_a_weight_that_is_no_number_is_told_first(splits):
    model = random_model()
    with torch.no_grad():
        model.backbone.blocks[1].out.weight[0, 0] = torch.nan
    with pytest.raises(KuberecError, match=r"1 of the 256 numbers of 'backbone.blocks.1.out.weig"):
        check_steps(config(PRUNE), model, splits)


def test_a_student_keeps_the_widths_that_prune_left():
    shape = ModelConfig.model_validate(BASE)
    cut = {"step": "prune", "heads": 1, "feedforward": 0.25}
    *_, student = check_shapes(config(cut, DISTIL | {"layers": 2}).steps, shape)
    assert student.shapes() == [BlockShape(heads=1, head_dim=32, inner=16)] * 2
    wide = DISTIL | {"layers": 2, "heads": 2, "feedforward": 1}
    *_, student = check_shapes(config(cut, wide).steps, shape)
    assert student.shapes() == [BlockShape(heads=2, head_dim=32, inner=64)] * 2


def test_a_runs_yaml_is_walked_through_too():
    path, steps = "pipelines/configs/movielens-100k.yaml", "compression.steps="
    with pytest.raises(ConfigError, match=r"compression.steps.0 \(prune\): layers: 3 .* are 2"):
        load_config(path, [steps + "[{step: prune, layers: 3}]"])
    with pytest.raises(ConfigError, match=r"steps.0.prune.headz'; did you mean 'heads'\? Allowed"):
        load_config(path, [steps + "[{step: prune, headz: 3}]"])
    # No recovery is none also after a pipeline has left out every null.
    kept = load_config(path, [steps + "[{step: prune, layers: 1, recovery: {epochs: 0}}]"])
    sent = kept.sections()["compression"]
    assert CompressionConfig.model_validate(sent).steps[0].recovery.epochs == 0


@pytest.mark.parametrize(
    "steps",
    [
        [PRUNE, DISTIL, QUANTISE],
        [PRUNE | {"heads": 1}, DISTIL, QUANTISE],
        [QUANTISE, PRUNE | {"heads": 1}],
        [SPARSE, QUANTISE],
    ],
    ids=lambda steps: " ".join(step["step"] for step in steps),
)
def test_in_any_order(steps, tmp_path, splits):
    width = 64 if SPARSE in steps else 32
    model = random_model(ModelConfig.model_validate(BASE | {"dim": width}))
    steps = [
        step | {"recovery": {"epochs": 1}} if step["step"] == "prune" else step for step in steps
    ]
    wanted = config(*steps)
    check_steps(wanted, model, splits)
    work = Work(model, splits, ExportConfig(k=12, max_seen=16), tmp_path)
    candidate = Candidate(model)
    for step in wanted.steps:
        candidate = take(step, candidate, work)
    graphs = write_graphs(candidate, work, tmp_path)
    test = splits["test"]
    inputs = pad(test.histories, TINY.max_length), pad(test.histories, 16)
    parity = torch_onnx_parity(candidate.model, graphs.exact, *inputs)
    assert parity["top_k_overlap"] == 1.0
    exact, _ = rank(open_session(graphs.exact), *inputs)
    served, _ = rank(open_session(graphs.served), *inputs)
    assert top_k_overlap(served, exact) > 0.8
    names = [step.step for step in wanted.steps]
    assert graphs.served.stat().st_size < graphs.exact.stat().st_size
    if "sparsify" in names:
        assert all(is_two_of_four(part.weight) for part in block_linears(candidate.model).values())
    if names[-1] == "prune":
        assert candidate.model.config.shapes()[0].inner == 16
