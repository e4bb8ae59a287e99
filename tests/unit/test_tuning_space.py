"""A search space is checked whole against the run's sections before any trial starts."""

import random

import pytest
from tuning_scene import BASE, tuning

from recommender.errors import KuberecError
from tuning.base import Base, Refused, read_value, value_text
from tuning.settings import parse_tuning
from tuning.space import check_space, snippet


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"model.dims": {"choices": [8, 16]}}, "unknown key 'model.dims'; did you mean 'dim'?"),
        ({"text.tfidf.dim": {"low": 8, "high": 16}}, "changes the items' vectors"),
        ({"serving.port": {"low": 8, "high": 16}}, "no key that a trial can change"),
        ({"model.hf": {"choices": [1, 2]}}, "is a section"),
        ({"model.dropout": {"low": 0.1, "high": 1.5}}, "model.dropout cannot be 1.5"),
        ({"model.backbone": {"choices": ["transformer", "rnn"]}}, "cannot be 'rnn'"),
        ({"model.backbone": {"low": 0, "high": 1}}, "is no number and has no range"),
        ({"model.layers": {"low": 1, "high": 2.5}}, "is a whole number"),
        ({"model.heads": {"choices": [2, 3]}}, r"must be a multiple of heads \(3\)"),
        ({"model.hf.lora_rank": {"low": 4, "high": 8}}, "'model.hf.name' is required"),
    ],
)
def test_what_no_config_accepts_is_named(space, said):
    with pytest.raises(KuberecError, match=said):
        check_space(tuning(space=space), BASE)


@pytest.mark.parametrize(
    ("dimension", "said"),
    [
        ({"low": 2, "high": 1}, r"low \(2\) must be below high"),
        ({"low": 0, "high": 1, "log": True}, "log needs low above 0"),
        ({"low": 1, "high": 2, "log": True, "step": 1}, "exclude each other"),
        ({"low": 0, "high": 1, "step": 0.3}, "no whole number of steps"),
        ({"low": 0, "heigh": 1}, "unknown key 'space.model.dropout.heigh'"),
        ({"choices": [1]}, "at least 2"),
        ({"choices": [1, 2, 1]}, "choices name 1 twice"),
    ],
)
def test_a_dimension_that_makes_no_sense_is_named_with_its_place(dimension, said):
    with pytest.raises(KuberecError, match=said) as caught:
        parse_tuning({"space": {"model.dropout": dimension}}, "here.yaml")
    assert str(caught.value).startswith("here.yaml")
    assert "space.model.dropout" in str(caught.value)


def test_values_that_fit_with_some_others_are_accepted_and_drawn_within_their_ends():
    parameters = check_space(tuning(), BASE)  # 12 and 8 do not fit, each fits with others
    assert [each.kind for each in parameters] == ["choice", "choice", "float"]
    rng = random.Random(1)
    rates = [parameters[2].draw(rng) for _ in range(100)]
    assert min(rates) >= 1e-3
    assert max(rates) <= 5e-2
    with pytest.raises(Refused, match=r"dim \(12\) must be a multiple of heads \(8\)"):
        BASE.with_values({"model.dim": 12, "model.heads": 8})


def test_values_survive_the_command_line_and_become_sections():
    values = {"model.dim": 16, "training.learning_rate": 1e-05, "model.fusion": "gate"}
    values |= {"model.hf": None, "training.label_smoothing": 0.1}
    assert {key: read_value(value_text(value)) for key, value in values.items()} == values
    changed = BASE.with_values(values)
    assert (changed.model.dim, changed.model.fusion) == (16, "gate")
    assert changed.training.learning_rate == 1e-5
    assert snippet(values)["training"] == {"learning_rate": 1e-5, "label_smoothing": 0.1}


def test_a_base_is_read_from_a_runs_yaml_or_from_text(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("name: other\nsource: {}\nmodel: {dim: 24}\n", encoding="utf-8")
    assert Base.read(str(path)).model.dim == 24
    assert Base.read('{"model": {"dim": 24}}') == Base.read(str(path))
    with pytest.raises(KuberecError, match=r"model.dim = 0"):
        Base.read('{"model": {"dim": 0}}')
