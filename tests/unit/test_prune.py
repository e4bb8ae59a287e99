"""Structured pruning: what is cut out is really gone, and what matters least goes first."""

import copy

import pytest
import torch
from recommender_data import ITEMS, TINY, random_model, vocabulary, write_windows

from recommender.agreement import top_k_overlap
from recommender.compression.distill import make_student
from recommender.compression.importance import (
    influence,
    loss_rises,
    magnitude,
    taylor,
    training_batches,
)
from recommender.compression.prune import narrowed, prune, without_layers
from recommender.errors import KuberecError
from recommender.export import export_ranker, torch_onnx_parity
from recommender.files import read_json, write_json
from recommender.model import load_model, save_model
from recommender.new_items import fit_item_map
from recommender.sequences import load_windows, pad
from recommender.settings import BlockShape, DistilStep, ModelConfig, PruneStep

SHAPES = {
    "distance": {"heads": 4},
    "rotary": {"position": "rotary", "heads": 4},
    "times": {"heads": 4, "time": "gaps"},
    "hstu": {"backbone": "hstu", "heads": 4, "time": "gaps"},
}
UNRECOVERED = {"epochs": 0}
HISTORIES = torch.tensor([[0, 0, 3, 4, 5, 9], [1, 2, 3, 6, 7, 8], [0, 0, 0, 0, 0, 4]])
TIMES = torch.where(HISTORIES > 0, torch.arange(6) * 5_000 + 1_700_000_000, 0)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_windows(write_windows(tmp_path_factory.mktemp("windows"), with_times=True))


def make(shape: str, **changes):
    return random_model(ModelConfig.model_validate(TINY.model_dump() | SHAPES[shape] | changes))


def scores(model):
    with torch.inference_mode():
        return model(HISTORIES, TIMES if model.config.time == "gaps" else None)


def everything(model) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    shapes = model.config.shapes()
    return [torch.arange(s.heads) for s in shapes], [torch.arange(s.inner or 0) for s in shapes]


def silence_head(model, block: int, head: int) -> None:
    """What the head gives is read by nobody."""
    end = model.backbone.blocks[block].heads_end
    width = end.in_features // model.backbone.blocks[block].heads
    with torch.no_grad():
        end.weight[:, head * width : (head + 1) * width] = 0


@pytest.mark.parametrize("shape", SHAPES)
def test_tensors_get_smaller_and_travel(shape, splits, tmp_path):
    model = make(shape)
    inner = None if shape == "hstu" else 0.5
    step = PruneStep(layers=1, heads=0.5, feedforward=inner, recovery=UNRECOVERED)
    pruned, curve = prune(model, model, splits, step)
    assert curve == []
    (block,) = pruned.config.shapes()
    assert block == BlockShape(heads=2, head_dim=4, inner=inner and 8)
    assert pruned.config.layers == len(pruned.backbone.blocks) == 1
    (left,) = pruned.backbone.blocks
    assert left.heads_end.weight.shape == (16, 8)
    weights = {name: tuple(weight.shape) for name, weight in left.state_dict().items()}
    if shape == "hstu":
        assert weights["first.weight"] == (4 * 8, 16)
        assert weights["attended_norm.weight"] == (8,)
        assert weights["distance_bias"] == (TINY.max_length, 2)
    else:
        assert weights["query.weight"] == (8, 16)
        assert weights["key_value.weight"] == (16, 16)
        assert weights["mlp.0.weight"] == (8, 16)
        assert weights["mlp.2.weight"] == (16, 8)
    # It is a model like any other: saved, loaded, exported.
    save_model(pruned, vocabulary(), tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == pruned.config
    assert torch.equal(scores(loaded), scores(pruned))
    length = TINY.max_length
    test = splits["test"]
    inputs = [pad(test.histories, length), pad(test.histories, 12)]
    if pruned.config.time == "gaps":
        inputs.append(pad(test.times, length))
    export_ranker(loaded, tmp_path / "ranker.onnx", 8, 12)
    parity = torch_onnx_parity(pruned, tmp_path / "ranker.onnx", *inputs)
    assert parity["top_k_overlap"] == 1.0
    assert parity["max_abs_score_diff"] < 1e-4
    # The model that it came from is as it was.
    assert model.config.layers == 2
    assert torch.equal(scores(model), scores(make(shape)))


@pytest.mark.parametrize("shape", SHAPES)
def test_pruning_nothing_changes_nothing(shape):
    model = make(shape)
    same = narrowed(model, *everything(model))
    assert same.config == model.config
    assert torch.equal(scores(same), scores(model))
    assert torch.equal(scores(without_layers(model, [0, 1])), scores(model))


@pytest.mark.parametrize("shape", ["distance", "rotary", "times"])
def test_a_dead_head_and_a_dead_unit_go_unnoticed(shape):
    model = make(shape)
    silence_head(model, 1, 2)
    with torch.no_grad():
        model.backbone.blocks[0].mlp[2].weight[:, 5] = 0
    heads, inner = everything(model)
    heads[1] = torch.tensor([0, 1, 3])
    inner[0] = torch.tensor([unit for unit in range(16) if unit != 5])
    pruned = narrowed(model, heads, inner)
    assert pruned.config.blocks == [
        BlockShape(heads=4, head_dim=4, inner=15),
        BlockShape(heads=3, head_dim=4, inner=16),
    ]
    torch.testing.assert_close(scores(pruned), scores(model))


def test_a_head_of_hstu_leaves_the_norm_over_heads():
    """Every weight of the heads that stay is in its place: against the equations by hand."""
    model = make("hstu", time="none", layers=1)
    block = model.backbone.blocks[0]
    columns = torch.tensor([0, 1, 2, 3, 12, 13, 14, 15])
    pruned = narrowed(model, [torch.tensor([0, 3])], [torch.zeros(0, dtype=torch.int64)])
    x = torch.randn(1, 6, 16)
    with torch.inference_mode():
        gate, value, query, key = torch.nn.functional.silu(block.first(block.norm(x)))[0].split(
            16, dim=-1
        )
        position = torch.arange(6)
        distance = (position[:, None] - position).clamp(min=0)
        attended = torch.cat(
            [
                torch.nn.functional.silu(
                    query[:, span] @ key[:, span].T + block.distance_bias[distance, head]
                ).tril()
                / block.max_length
                @ value[:, span]
                for head, span in ((0, slice(0, 4)), (3, slice(12, 16)))
            ],
            dim=-1,
        )
        norm = block.attended_norm
        normed = torch.nn.functional.layer_norm(
            attended, (8,), norm.weight[columns], norm.bias[columns]
        )
        expected = (normed * gate[:, columns]) @ block.second.weight[:, columns].T
        got = pruned.backbone(x, None) - x
    torch.testing.assert_close(got[0], expected + block.second.bias)


@pytest.mark.parametrize("shape", SHAPES)
def test_taylor_finds_what_is_dead(shape, splits):
    model = make(shape)
    silence_head(model, 0, 1)
    silence_head(model, 1, 3)
    if shape != "hstu":
        with torch.no_grad():
            model.backbone.blocks[1].mlp[0].weight[7] = 0
            model.backbone.blocks[1].mlp[0].bias[7] = 0  # GELU(0) = 0
    important = taylor(model, training_batches(splits["train"], model.config, 32, 0))
    assert [int(each.argmin()) for each in important.heads] == [1, 3]
    assert important.heads[0][1] == 0 < important.heads[0][0]
    if shape != "hstu":
        assert int(important.inner[1].argmin()) == 7
    assert not any(weight.grad is not None for weight in model.parameters())


def test_taylor_is_the_slope_of_the_loss(splits):
    """Of one window, against the difference quotient over a head's and a unit's outputs."""
    model = make("distance").double()
    window = copy.copy(splits["train"])
    window = type(window)(window.users[:1], [window.histories[0][:7]], window.targets[:1])
    batches = training_batches(window, model.config, 1, 0)
    important = taylor(model, batches)
    (batch,) = batches
    step = 1e-4

    def exact_loss(model) -> float:
        table = model.item_table()
        hidden = model.encode(batch.history_BL, table, right_padded=True)[batch.following_BL > 0]
        return float(
            torch.nn.functional.cross_entropy(
                hidden @ table[1:].T,
                batch.following_BL[batch.following_BL > 0] - 1,
                reduction="sum",
            )
        )

    for name, columns, wanted in (
        ("heads_end", slice(4, 8), important.heads[1][1]),
        ("inner_end", slice(3, 4), important.inner[1][3].sqrt()),
    ):
        losses = []
        for scale in (1 + step, 1 - step):
            other = copy.deepcopy(model)
            with torch.no_grad():
                getattr(other.backbone.blocks[1], name).weight[:, columns] *= scale
                losses.append(exact_loss(other))
        slope = abs(losses[0] - losses[1]) / (2 * step)
        assert float(wanted) == pytest.approx(slope, rel=1e-3)


def test_magnitude_is_the_l1_norm_of_all_that_goes(splits):
    model = make("times")
    block = model.backbone.blocks[0]
    important = magnitude(model)
    rows = slice(4, 8)
    key_value = torch.cat([block.key_value.weight, block.key_value.bias[:, None]], dim=1)
    expected = sum(
        part.abs().sum()
        for part in (
            block.query.weight[rows],
            block.query.bias[rows],
            key_value[4:8],
            key_value[20:24],
            block.out.weight[:, rows],
            block.distance_bias.weight[:, 1],
            block.time_bias.weight[:, 1],
        )
    )
    torch.testing.assert_close(important.heads[0][1], expected.detach())
    unit = block.mlp[0].weight[3].abs().sum() + block.mlp[0].bias[3].abs()
    unit = unit + block.mlp[2].weight[:, 3].abs().sum()
    torch.testing.assert_close(important.inner[0][3], unit.detach())


@pytest.mark.parametrize("kind", ["loss", "influence"])
def test_the_block_that_does_nothing_goes_first(kind, splits):
    model = make("distance", layers=3)
    with torch.no_grad():
        idle = model.backbone.blocks[1]
        for part in (idle.out, idle.mlp[2]):
            part.weight.zero_()
            part.bias.zero_()
    batches = training_batches(splits["train"], model.config, 32, 0)
    if kind == "loss":
        assert float(loss_rises(model, batches)[1]) == pytest.approx(0, abs=1e-2)
        for other in (0, 2):  # the others made the random model worse or better, by much
            assert abs(float(loss_rises(model, batches)[other])) > 1
    else:
        turned = influence(model, batches)
        assert int(turned.argmin()) == 1
        assert float(turned[1]) == pytest.approx(0, abs=1e-6)
        step = PruneStep(layers=2, layer_importance="influence", recovery=UNRECOVERED)
        pruned, _ = prune(model, model, splits, step)
        torch.testing.assert_close(scores(pruned), scores(model))
    assert len(model.backbone.blocks) == 3


def test_globally_blocks_come_out_unlike_and_keep_one_each(splits):
    model = make("distance")
    for head in (0, 1, 3):
        silence_head(model, 0, head)
    with torch.no_grad():
        model.backbone.blocks[1].mlp[2].weight[:] = 0
    step = PruneStep(heads=0.6, feedforward=0.25, scope="global", recovery=UNRECOVERED)
    pruned, _ = prune(model, model, splits, step)
    first, second = pruned.config.blocks
    assert (first.heads, second.heads) == (1, 4)  # 0.6 of 8
    assert (first.inner, second.inner) == (7, 1)  # 0.25 of 32
    kept = model.backbone.blocks[0].heads_end.weight[:, 8:12]
    torch.testing.assert_close(pruned.backbone.blocks[0].heads_end.weight, kept)


def test_recovery_brings_back_what_the_teacher_says(splits):
    teacher = make("distance", layers=2)
    step = PruneStep(layers=1, heads=0.5, feedforward=0.5, recovery={"epochs": 0})
    cut, _ = prune(teacher, teacher, splits, step)
    recovery = {"epochs": 6, "batch_size": 8, "learning_rate": 0.02, "dropout": 0.0}
    told: list[str] = []
    recovered, curve = prune(
        teacher,
        teacher,
        splits,
        step.model_copy(update={"recovery": type(step.recovery)(**recovery)}),
        lambda done, total, message: told.append(message),
    )
    histories = torch.from_numpy(pad(splits["test"].histories, 10))

    def agreement(model) -> float:
        with torch.inference_mode():
            ours, theirs = (m(histories)[:, 1:].topk(10).indices for m in (model, teacher))
        return top_k_overlap(ours.numpy(), theirs.numpy())

    assert len(curve) == 6
    assert told[-1].startswith("pruned: loss")
    assert recovered.config.dropout == 0.0
    assert agreement(recovered) > agreement(cut) + 0.1


def test_blocks_that_disagree_are_refused():
    block = {"heads": 2, "head_dim": 8, "inner": 16}
    base = {"dim": 16, "layers": 2, "heads": 2}
    for changes, message in (
        ({"blocks": [block]}, "blocks: 1 shapes, but layers: 2"),
        ({"blocks": [block, block | {"heads": 3}]}, r"blocks.1: .* 3 x 8 = 24, more than dim"),
        ({"blocks": [block, {"heads": 2, "head_dim": 8}]}, "blocks.1: inner goes with"),
        ({"backbone": "hstu", "blocks": [block, block]}, "blocks.0: inner goes with"),
        (
            {"position": "rotary", "blocks": [block, block | {"head_dim": 3}]},
            r"blocks.1: head_dim \(3\) must be even",
        ),
        ({"backbone": "hf", "hf": {"name": "x"}, "blocks": [block, block]}, "not for backbone"),
    ):
        with pytest.raises(ValueError, match=message):
            ModelConfig.model_validate(base | changes)


def test_settings_that_make_no_sense_are_refused():
    for settings, message in (
        ({}, "nothing is pruned: give layers, heads or feedforward"),
        ({"heads": 0}, "greater than 0"),
        ({"layers": 1.5}, "1.5 is no count"),
        ({"heads": 2, "scope": "global"}, "heads: 2 is a number, and scope: global"),
    ):
        with pytest.raises(ValueError, match=message):
            PruneStep.model_validate(settings)
    # What a pipeline hands over are floating-point numbers: one head stays one.
    assert PruneStep(heads=1).heads == PruneStep.model_validate({"heads": 1.0}).heads == 1


def test_a_decoder_is_to_be_distilled_first(splits):
    model = make("distance")
    model.config = model.config.model_copy(update={"backbone": "hf"})
    with pytest.raises(KuberecError, match="distil it first"):
        prune(model, model, splits, PruneStep(layers=1))


def test_a_pruned_model_teaches_and_is_given_new_items():
    model = make("distance")
    heads, inner = everything(model)
    pruned = narrowed(model, [heads[0][:1], heads[1]], [inner[0][:5], inner[1]])
    assert pruned.config.blocks is not None
    student = make_student(pruned, DistilStep(layers=1, heads=2, feedforward=1))
    assert student.config.blocks is None
    assert student.eval()(HISTORIES).shape == (3, ITEMS + 1)
    assert fit_item_map(pruned) is not None
    # The block that was not cut is what a student of two blocks starts from.
    both = make_student(pruned, DistilStep(layers=2, heads=2, feedforward=1))
    kept, taken = (each.backbone.blocks[1].query.weight for each in (pruned, both))
    assert torch.equal(kept, taken)


def test_models_saved_before_blocks_had_shapes_load_as_they_were(tmp_path):
    model = make("rotary")
    save_model(model, vocabulary(), tmp_path)
    description = read_json(tmp_path / "model.json")
    del description["config"]["blocks"]
    write_json(tmp_path / "model.json", description)
    assert torch.equal(scores(load_model(tmp_path)), scores(model))
