"""What a student learns: each loss against its formula, and a training that is the same twice."""

import math

import pytest
import torch
from pydantic import ValidationError
from recommender_data import TINY, random_model, write_windows

from recommender.compression import learning
from recommender.compression.distill import distil, make_student
from recommender.compression.hidden_states import (
    HiddenStates,
    captured,
    hidden_loss,
    layer_pairs,
)
from recommender.compression.learning import LearningFailed, learn
from recommender.compression.losses import distillation_loss, ranking_loss, score_loss
from recommender.compression.soundness import ranker_parameters
from recommender.errors import KuberecError
from recommender.sequences import epoch_batches, load_windows
from recommender.settings import DistilStep, LearningConfig
from recommender.training.averaging import averaged, update_average
from recommender.training.losses import CPU_ROWS

torch.set_num_threads(1)  # more than that only wait for each other on models this small
QUICK = LearningConfig(epochs=2, batch_size=16, learning_rate=0.01, precision="float32")


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    return load_windows(write_windows(tmp_path_factory.mktemp("windows"), users=32))


def student_of(teacher, dim=8):
    torch.manual_seed(3)
    return make_student(teacher, DistilStep(dim=dim, layers=1, heads=1))


def bytes_of(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def test_the_ranking_loss_is_a_plackett_luce_of_the_teachers_best():
    # The teacher's order is 2, 0; of the batch's items 0 and 3 the first is in the list.
    student = torch.tensor([[1.0, 9.0, 0.5, 2.0]])
    teacher = torch.tensor([[3.0, 1.0, 4.0, 0.0]])
    first = math.log(math.exp(0.5) + math.exp(1.0) + math.exp(2.0)) - 0.5
    second = math.log(math.exp(1.0) + math.exp(2.0)) - 1.0
    loss = ranking_loss(student, teacher, torch.tensor([0, 3]), top=2)
    assert float(loss) == pytest.approx((first + second) / 2, abs=1e-6)


def test_a_list_that_holds_the_whole_batch_still_has_a_gradient():
    student = torch.randn(2, 4, requires_grad=True)
    ranking_loss(student, torch.randn(2, 4), torch.tensor([1, 2]), top=9).backward()
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0


def test_hidden_losses_are_the_published_ones():
    student, teacher = torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0]])
    assert float(hidden_loss(student, teacher, "cosine")) == pytest.approx(1 - 24 / 25)
    assert float(hidden_loss(student, teacher, "mse")) == pytest.approx(1.0)


def test_a_students_blocks_learn_from_blocks_as_far_up():
    assert layer_pairs(1, 4) == [(0, 3)]
    assert layer_pairs(2, 6) == [(0, 2), (1, 5)]
    assert layer_pairs(3, 2) == [(0, 0), (1, 0), (2, 1)]


def test_maps_bridge_widths_and_belong_to_no_model():
    teacher = random_model()
    student = student_of(teacher)
    history_BL = torch.tensor([[3, 4, 5]])
    hidden = HiddenStates(student, teacher, "mse", history_BL)
    (bridge,) = hidden.maps
    assert bridge.weight.shape == (16, 8)
    states = []
    for model in (student.eval(), teacher):
        with captured(model) as seen:
            model.encode(history_BL, model.item_table(), right_padded=True)
        states.append(seen)
    assert [len(each) for each in states] == [1, 2]
    learnt_BL = torch.tensor([[True, True, False]])
    expected = ((states[0][0][0, :2] @ bridge.weight.T - states[1][1][0, :2]) ** 2).mean()
    torch.testing.assert_close(hidden(*states, learnt_BL), expected)
    assert not [name for name in student.state_dict() if "maps" in name]


@pytest.mark.parametrize("ranking", [0.0, 0.5])
def test_scores_a_few_rows_at_a_time_are_the_whole_matrix(ranking):
    torch.manual_seed(0)
    rows, items = 2 * CPU_ROWS + 7, 40
    config = LearningConfig(temperature=2.0, soft_share=0.7, ranking_weight=ranking, ranking_top=5)
    hidden, table = torch.randn(rows, 8, requires_grad=True), torch.randn(items, 8)
    table.requires_grad_()
    teacher, teacher_table = torch.randn(rows, 12), torch.randn(items, 12)
    following = torch.randint(items, (rows,))
    loss = score_loss(hidden, table, teacher, teacher_table, following, config)
    ours = torch.autograd.grad(loss, (hidden, table))
    student, full = hidden @ table.T, teacher @ teacher_table.T
    whole = distillation_loss(student, full, following, config)
    whole = whole + ranking * ranking_loss(student, full, following.unique(), 5)
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(ours, torch.autograd.grad(whole, (hidden, table)))


def plain(student, teacher, splits, config):
    """The training without hidden states and ranking, written out."""
    torch.manual_seed(config.seed)
    average = averaged(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, weight_decay=0.01)
    step = 0
    for epoch in range(config.epochs):
        student.train()
        batches = epoch_batches(
            splits["train"].histories, student.config.max_length, config.batch_size, config.seed,
            epoch, config.reversed_share, config.dropped_share,
        )  # fmt: skip
        for batch in batches:
            rate = min(1.0, (step + 1) / len(batches))
            rate *= (1 + math.cos(math.pi * step / (config.epochs * len(batches)))) / 2
            optimizer.param_groups[0]["lr"] = config.learning_rate * rate
            learnt_BL = batch.following_BL > 0
            logits = []
            for model in (teacher, student):
                with torch.set_grad_enabled(model is student):
                    table = model.item_table()
                    hidden = model.encode(batch.history_BL, table, right_padded=True)
                    logits.append(hidden[learnt_BL] @ table[1:].T)
            following_M = batch.following_BL[learnt_BL] - 1
            loss = distillation_loss(logits[1], logits[0], following_M, config)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            step += 1
            update_average(average, student, step, config.average_decay)
    student.load_state_dict(average.state_dict())
    return student


def test_without_the_new_losses_the_training_is_bit_for_bit_the_plain_one(splits):
    teacher = random_model()
    ours, curve = learn(student_of(teacher), teacher, splits, QUICK)
    theirs = plain(student_of(teacher), teacher, splits, QUICK)
    assert bytes_of(ours) == bytes_of(theirs)
    assert set(curve[0]) & {"hidden_loss"} == set()


def test_a_seed_gives_the_same_bytes_with_every_loss_on(splits):
    teacher = random_model()
    config = QUICK.model_copy(
        update={"hidden_weight": 1.0, "hidden_loss": "mse", "ranking_weight": 0.5, "epochs": 1}
    )
    runs = [learn(student_of(teacher), teacher, splits, config) for _ in range(2)]
    assert bytes_of(runs[0][0]) == bytes_of(runs[1][0])
    assert runs[0][1] == runs[1][1]
    plain_bytes = bytes_of(learn(student_of(teacher), teacher, splits, QUICK)[0])
    assert bytes_of(runs[0][0]) != plain_bytes


def test_hidden_states_come_nearer(splits):
    teacher = random_model()
    config = QUICK.model_copy(update={"hidden_weight": 5.0, "epochs": 4})
    _, curve = learn(student_of(teacher), teacher, splits, config)
    assert curve[-1]["hidden_loss"] < 0.7 * curve[0]["hidden_loss"]


def test_bfloat16_learns_the_same_to_its_precision(splits):
    teacher = random_model()
    curves = [
        learn(
            student_of(teacher), teacher, splits, QUICK.model_copy(update={"precision": precision})
        )[1]
        for precision in ("float32", "bfloat16")
    ]
    losses = [curve[-1]["train_loss"] for curve in curves]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_loss_that_is_not_finite_names_epoch_and_step(splits):
    teacher = random_model()

    def break_after_a_step(model):
        model.output_norm.weight.data.fill_(math.inf)

    with pytest.raises(
        LearningFailed, match=r"student: the loss is nan at epoch 1 of 2, step 2 of"
    ):
        learn(student_of(teacher), teacher, splits, QUICK, after_step=break_after_a_step)


def test_a_teacher_with_nan_is_refused_and_its_tensor_named(splits):
    teacher = random_model()
    teacher.backbone.blocks[1].out.weight.data[0, 0] = math.nan
    with pytest.raises(KuberecError, match=r"full model: 1 of the 256 .*'backbone.blocks.1.out"):
        learn(student_of(random_model()), teacher, splits, QUICK)


def test_progress_is_told_within_an_epoch(splits, monkeypatch):
    monkeypatch.setattr(learning, "TELL_EVERY_S", 0.0)
    told = []
    teacher = random_model()
    learn(student_of(teacher), teacher, splits, QUICK, lambda *words: told.append(words))
    assert any("step 1 of" in message and "batches/s" in message for *_, message in told)
    assert told[-1][:2] == (2, 2)


def test_threads_are_as_asked_for_and_as_before_afterwards(splits):
    torch.set_num_threads(2)
    seen = []
    teacher = random_model()
    config = QUICK.model_copy(update={"threads": 1, "epochs": 1})
    learn(
        student_of(teacher), teacher, splits, config,
        after_step=lambda _: seen.append(torch.get_num_threads()),
    )  # fmt: skip
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_weight", -1), ("hidden_loss", "l1"), ("ranking_top", 0), ("precision", "float16")],
)
def test_a_wrong_setting_is_named(key, value):
    with pytest.raises(ValidationError, match=key):
        LearningConfig.model_validate({key: value})


@pytest.mark.parametrize(("full", "backbone"), [("hstu", "transformer"), ("transformer", "hstu")])
def test_a_student_may_be_of_another_backbone_and_read_less(splits, full, backbone):
    teacher = random_model(TINY.model_copy(update={"backbone": full}))
    step = DistilStep(
        backbone=backbone, layers=1, dim=8, heads=1, max_length=5, epochs=1, hidden_weight=1.0
    )
    student, curve = distil(teacher, splits, step)
    assert student.config.backbone == backbone
    assert student.config.max_length == 5
    assert math.isfinite(curve[0]["hidden_loss"])


def test_a_students_settings_that_cannot_be_are_named(splits):
    teacher = random_model()
    with pytest.raises(KuberecError, match=r"max_length: the student would read 11 .* reads 10"):
        distil(teacher, splits, DistilStep(max_length=11))
    larger = DistilStep(layers=3, feedforward=4, epochs=10**6)
    with pytest.raises(KuberecError, match=r"student has [\d,]+ parameters .* its teacher [\d,]+:"):
        distil(teacher, splits, larger)


def test_a_rankers_parameters_are_those_of_its_graph():
    model = random_model()
    blocks = sum(weight.numel() for weight in model.backbone.parameters())
    assert ranker_parameters(model) == blocks + 2 * 2 * 16 + 31 * 16 + 31
