"""The parts of training: optimiser, precision, accumulation, average, watch, memory, rate test."""

import math

import pytest
import torch
from recommender_data import ITEMS, TINY, random_model, write_vectors, write_windows

from recommender.errors import KuberecError
from recommender.sequences import load_windows
from recommender.settings import TrainingConfig
from recommender.training.averaging import averaged, update_average
from recommender.training.batches import Batches, validation_rows
from recommender.training.compiling import compiled
from recommender.training.determinism import explained_determinism
from recommender.training.find_rate import find_rate, range_test
from recommender.training.memory import OutOfMemory, explained_memory
from recommender.training.module import next_item_loss
from recommender.training.optimizer import make_optimizer, rate_at
from recommender.training.parallel import sharded
from recommender.training.precision import multiplies_bfloat16, resolve
from recommender.training.validation import ranks_of
from recommender.training.watch import READ_EVERY, TrainingFailed, Watch

CONFIG = TrainingConfig(
    epochs=4, batch_size=8, learning_rate=0.02, warmup_epochs=1, seed=7, threads=1
)
torch.set_num_threads(1)  # more than that only wait for each other on models this small
STILL = TINY.model_copy(update={"dropout": 0.0})


def changed(**changes: object) -> TrainingConfig:
    return CONFIG.model_copy(update=changes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("parts")
    return write_windows(root / "windows", users=20), write_vectors(root / "vectors")


@pytest.fixture(scope="module")
def splits(folders):
    return load_windows(folders[0])


def test_matrices_decay_the_rest_does_not_and_what_is_frozen_is_left_out():
    model = random_model()
    model.text_projection.weight.requires_grad_(False)
    decayed, rest = make_optimizer(model, changed(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    assert all(weight.ndim > 1 for weight in decayed["params"])
    assert all(weight.ndim == 1 for weight in rest["params"])
    held = {id(weight) for group in (decayed, rest) for weight in group["params"]}
    trained = {id(weight) for weight in model.parameters() if weight.requires_grad}
    assert held == trained
    assert id(model.text_projection.weight) not in held


def test_the_rate_rises_linearly_and_ends_on_a_cosine():
    rates = [rate_at(step, 10, CONFIG) for step in range(41)]
    assert rates[:10] == pytest.approx([0.002 * (step + 1) for step in range(10)])
    assert rates[25] == pytest.approx(0.01)  # half of the cosine
    assert rates[40] == pytest.approx(0.0)
    assert rate_at(0, 10, changed(warmup_epochs=0)) == CONFIG.learning_rate


def test_precision_is_what_the_device_can_do():
    assert resolve("float32", "cpu") is torch.float32
    assert resolve("bfloat16", "cpu") is torch.bfloat16
    expected = torch.bfloat16 if multiplies_bfloat16("cpu") else torch.float32
    assert resolve("auto", "cpu") is expected
    flags = {
        flag
        for line in open("/proc/cpuinfo", encoding="utf-8")  # noqa: SIM115, PTH123
        if line.startswith("flags")
        for flag in line.split()
    }
    assert multiplies_bfloat16("cpu") == bool({"avx512_bf16", "amx_bf16"} & flags)
    with pytest.raises(KuberecError, match=r"training\.precision: float16 needs a CUDA GPU"):
        resolve("float16", "cpu")


def gradients(splits, config: TrainingConfig) -> list[list[torch.Tensor]]:
    """Of each optimiser step of an epoch, on the same weights."""
    model, batches = random_model(STILL), Batches(splits["train"], STILL, config)
    steps, pieces = [], list(batches.epoch(0))
    batches.close()
    assert len(pieces) == batches.steps_per_epoch * config.accumulate
    for start in range(0, len(pieces), config.accumulate):
        model.zero_grad()
        for piece in pieces[start : start + config.accumulate]:
            next_item_loss(model, piece.batch, piece.positions).backward()
        steps.append([weight.grad.clone() for weight in model.parameters()])
    return steps


def test_accumulated_gradients_are_those_of_one_larger_batch(splits):
    whole = gradients(splits, changed(batch_size=12))  # the last of them has fewer windows
    parts = gradients(splits, changed(batch_size=4, accumulate=3))
    uneven = gradients(splits, changed(batch_size=2, accumulate=6))
    assert len(whole) == len(parts) == len(uneven) > 1
    for expected, *others in zip(whole, parts, uneven, strict=True):
        for other in others:
            torch.testing.assert_close(other, expected, rtol=1e-4, atol=1e-6)


def test_a_process_without_rows_reaches_every_weight_and_moves_none(monkeypatch, splits):
    """Else others would wait for its gradients."""
    monkeypatch.setenv("WORLD_SIZE", "64")  # more than there are rows
    monkeypatch.setenv("RANK", "63")
    model, batches = random_model(STILL), Batches(splits["train"], STILL, changed(batch_size=4))
    piece = next(iter(batches.epoch(0)))
    batches.close()
    next_item_loss(model, piece.batch, piece.positions).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert not weight.grad.any(), name


def test_an_epoch_goes_on_where_it_was_left(splits):
    batches = Batches(splits["train"], STILL, CONFIG)
    epoch = batches.epoch(1)
    begun = iter(epoch)
    first = [next(begun) for _ in range(2)]
    state = epoch.state_dict()
    resumed = batches.epoch(1)
    resumed.load_state_dict(state)
    rest = list(resumed)
    again = list(batches.epoch(1))
    batches.close()
    assert len(resumed) == len(again)
    for one, other in zip([*first, *rest], again, strict=True):
        assert torch.equal(one.batch.history_BL, other.batch.history_BL)
    later = Batches(splits["train"], STILL, CONFIG)
    other_epoch = later.epoch(2)
    other_epoch.load_state_dict(state)
    assert len(list(other_epoch)) == len(again)
    later.close()


def test_the_average_moves_and_shares_what_does_not():
    model = random_model()
    model.text_projection.weight.requires_grad_(False)
    average = averaged(model)
    before = average.id_embedding.weight.clone()
    assert average.text_vectors is model.text_vectors
    assert average.text_projection.weight is model.text_projection.weight
    with torch.no_grad():
        model.id_embedding.weight += 1
    update_average(average, model, step=10_000, decay=0.9)
    torch.testing.assert_close(average.id_embedding.weight, before + 0.1)
    update_average(average, model, step=0, decay=0.9)  # the first steps are nearly copies
    torch.testing.assert_close(average.id_embedding.weight, before + 0.91)


@pytest.mark.parametrize("backbone", ["transformer", "hstu"])
def test_validation_ranks_as_if_padded_in_full(splits, backbone):
    model = random_model(TINY.model_copy(update={"backbone": backbone, "max_length": 24}))
    split = splits["valid"]
    groups = list(validation_rows(split, 6))
    assert sorted(row for group in groups for row in group) == list(range(len(split)))
    longest = max(range(len(split)), key=lambda row: len(split.histories[row]))
    with torch.inference_mode():
        for group in groups[:2]:
            short = ranks_of(model, split, group, torch.device("cpu"))
            padded = ranks_of(model, split, [*group, longest], torch.device("cpu"))[:-1]
            assert short.tolist() == padded.tolist()
        assert ranks_of(model, split, [], torch.device("cpu")).tolist() == []


def watch(losses, norms=None, **changes: object) -> Watch:
    seen = Watch(changed(**changes), steps_per_epoch=10)
    for step, loss in enumerate(losses):
        norm = 1.0 if norms is None else norms[step]
        if seen.add(step, 0.01, torch.tensor(loss), torch.tensor(norm)):
            seen.read()
    seen.read()
    return seen


def test_a_loss_or_gradient_that_is_not_finite_stops_and_says_where():
    assert len(watch([3.0] * (READ_EVERY + 3)).losses) == READ_EVERY + 3
    with pytest.raises(TrainingFailed) as stopped:
        watch([3.0] * 13 + [math.nan] + [3.0] * 5)
    assert "the loss is nan at step 14 (epoch 2, step 4 of 10)" in str(stopped.value)
    assert "learning rate 0.01; the last finite loss was 3" in str(stopped.value)
    assert "lower training.learning_rate (now 0.02)" in str(stopped.value)
    with pytest.raises(TrainingFailed, match="the gradient is inf at step 2"):
        watch([3.0] * 4, [1.0, math.inf, 1.0, 1.0])


def test_float16s_scaler_may_try_but_not_for_ever():
    for tries, ends in ((5, False), (60, True)):
        seen = Watch(CONFIG, steps_per_epoch=10, scaled=True)
        for step in range(tries):
            seen.add(step, 0.01, torch.tensor(1.0), torch.tensor(math.inf))
        if ends:
            with pytest.raises(TrainingFailed):
                seen.read()
        else:
            seen.read()


def test_divergence_is_a_rise_that_stays():
    falling = [5.0 - 0.04 * step for step in range(100)]
    settings = {"divergence_ratio": 1.5, "divergence_patience": 30}
    watch([*falling, *[9.0] * 5, *[1.0] * 60], **settings)  # a bump is none
    with pytest.raises(TrainingFailed, match=r"it diverges at step 1\d\d .* over 1.5 times that"):
        watch([*falling, *[9.0] * 60], **settings)


def test_the_watch_goes_on_after_a_resume():
    seen = watch([2.0, 1.0])
    other = Watch(CONFIG, steps_per_epoch=10)
    other.load_state_dict(seen.state_dict())
    assert other.losses == [2.0, 1.0]
    assert other.state_dict() == seen.state_dict()


def test_out_of_memory_names_the_knobs():
    config = changed(batch_size=64, accumulate=2)
    with pytest.raises(OutOfMemory) as told, explained_memory(TINY, config, ITEMS):
        torch.empty(2**55)  # the allocator's own words
    for words in (
        "training.batch_size: 32 with training.accumulate: 4 (now 64 and 2)",
        "training.precision: bfloat16 (now auto)",
        "model.max_length: 5 (now 10)",
        "training.loss: sampled-softmax (now softmax)",
        "model.dim, model.layers (now 16 and 2)",
    ):
        assert words in str(told.value)
    with (
        pytest.raises(OutOfMemory, match="memory of the GPU"),
        explained_memory(TINY, config, ITEMS),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    with (
        pytest.raises(RuntimeError, match="size of tensor"),
        explained_memory(TINY, config, ITEMS),
    ):
        torch.zeros(2) + torch.zeros(3)


def test_an_operation_that_cannot_be_deterministic_is_named():
    strict = changed(deterministic=True)
    torch.use_deterministic_algorithms(True)
    try:
        with (
            pytest.raises(KuberecError, match=r"set training\.deterministic: false"),
            explained_determinism(strict),
        ):
            torch.zeros(4).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)
    finally:
        torch.use_deterministic_algorithms(False)


def test_compiling_needs_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with (
        pytest.raises(KuberecError, match=r"needs a C\+\+ compiler"),
        compiled(random_model(), True, "cpu"),
    ):
        pass


def test_what_does_not_go_together_is_said_before_training():
    with pytest.raises(KuberecError, match="torchrun"):
        sharded(changed(strategy="fsdp"))


def test_the_rate_test_suggests_a_rate_that_learns_and_keeps_nothing(folders, splits):
    test = find_rate(*folders, TINY, CONFIG, steps=60)
    assert 1e-4 < test.suggestion < test.best <= 1.0
    assert test.losses[0] > min(test.losses)
    assert test.rates == sorted(test.rates)
    model = random_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batches = Batches(splits["train"], TINY, CONFIG)
    range_test(model, batches, CONFIG, 1e-4, 1.0, 30)
    batches.close()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_rate_test_without_a_fall_says_so(folders):
    with pytest.raises(KuberecError, match="falls at no learning rate"):
        find_rate(*folders, TINY, CONFIG, lowest=1e-12, highest=1e-11, steps=20)
    with pytest.raises(KuberecError, match="0 < lowest < highest"):
        find_rate(*folders, TINY, CONFIG, lowest=1.0, highest=0.1)
