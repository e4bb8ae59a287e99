"""A run's YAML: every mistake is answered with its line, the key, the value and what is allowed."""

import json
from pathlib import Path

import pytest

from pipelines.config import ConfigError, load_config
from serving.settings import ServingConfig

CONFIGS = Path(__file__).resolve().parents[2] / "pipelines" / "configs"
GOOD = """\
name: demo
source:
  name: Demo
  events:
    path: events.csv
    format: csv
    columns: {user_id: u, item_id: i, timestamp: t}
  items:
    path: items.csv
    format: csv
    columns: {item_id: i, title: name}
training:
  epochs: 3
"""


def load(tmp_path, text, *overrides):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return load_config(path, overrides)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_configs_are_valid(path):
    assert load_config(path).name == path.stem


def test_a_step_that_the_export_has_no_graph_for_is_refused(tmp_path):
    codes = "compression.steps=[{step: distil}, {step: quantise-items, kind: pq}]"
    with pytest.raises(ConfigError, match=r"steps\.1 \(quantise-items\): export\.scoring = two-st"):
        load(tmp_path, GOOD, "export.scoring=two-stage", codes)
    load(tmp_path, GOOD, "export.scoring=two-stage")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            "layers: 1",
            r"steps\.0: key 'step' is required, one of prune, sparsify, distil, quantise",
        ),
        ("step: prun", r"steps\.0: step = 'prun'; did you mean 'prune'\? Allowed here: prune, sp"),
        ("step: quantise-items", r"quantise-items: key 'kind' is required, one of int8-rows, pq"),
        ("step: quantise-items, kind: x", r"kind = 'x'\. Allowed here: int8-rows, pq"),
    ],
)
def test_a_step_of_no_kind_is_told_which_there_are(tmp_path, step, said):
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, GOOD, f"compression.steps=[{{{step}}}]")


def test_a_limit_that_is_not_asked_has_a_word_since_null_is_lost(tmp_path):
    limit = "export.parity.onnx.max_score_difference="
    sent = load(tmp_path, GOOD, limit + "any").sections()["export"]
    assert sent["parity"]["onnx"]["max_score_difference"] == "any"
    with pytest.raises(ConfigError, match=r"max_score_difference"):
        load(tmp_path, GOOD, limit + "null")


def test_defaults_fill_what_is_not_said(tmp_path):
    config = load(tmp_path, GOOD)
    assert config.training.epochs == 3
    assert config.serving.port == 8000
    assert set(config.sections()) == {
        *("source", "validation", "text", "features", "model", "training"),
        *("evaluation", "compression", "export", "serving", "tracking", "card"),
    }


def test_a_mistyped_key_is_named_with_its_line_and_the_likely_meaning(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD.replace("epochs: 3", "epoch: 3"))
    message = str(error.value)
    assert "line 13: unknown key 'training.epoch'; did you mean 'epochs'?" in message
    assert "learning_rate" in message  # all that is allowed there


def test_an_unknown_section_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"line 14: unknown key 'trainning'.*'training'"):
        load(tmp_path, GOOD + "trainning: {}\n")


def test_a_wrong_value_is_shown_with_what_is_allowed(tmp_path):
    with pytest.raises(ConfigError, match=r"line 13: training\.epochs = 0: .*greater than 0"):
        load(tmp_path, GOOD.replace("epochs: 3", "epochs: 0"))
    with pytest.raises(ConfigError, match=r"source\.events\.format = 'xls': .*'csv'.*'parquet'"):
        load(tmp_path, GOOD.replace("format: csv", "format: xls", 1))


def test_every_problem_is_told_at_once(tmp_path):
    text = GOOD.replace("epochs: 3", "epochs: many\n  seed: -1\n  speed: 1")
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text)
    assert "3 problems" in str(error.value)


def test_a_missing_section_is_named(tmp_path):
    with pytest.raises(ConfigError, match="key 'source' is required"):
        load(tmp_path, "name: demo\n")


def test_text_that_is_no_yaml_gives_the_place(tmp_path):
    with pytest.raises(ConfigError, match="line 3"):
        load(tmp_path, "name: demo\nsource: [\n")


def test_the_pipelines_arguments_say_the_same_as_the_config(tmp_path):
    config = load(tmp_path, GOOD)
    sections = config.sections()
    assert "None" not in repr(sections)
    again = type(config).model_validate(sections | {"name": "demo"})
    named = config.tracking.named(config.name)  # of a run, the store's names follow from its own
    assert again == config.model_copy(update={"tracking": named})


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_a_rollouts_steps_come_through_a_pipelines_arguments(path):
    """Also as Kubeflow hands numbers on, which knows no integers, and shares alone."""
    config = load_config(path)
    serving = json.loads(json.dumps(config.sections()["serving"]), parse_int=float)
    assert ServingConfig.model_validate(serving) == config.serving
    serving["rollout"] = {"steps": [5.0, 25.0, 100.0]}
    steps = ServingConfig.model_validate(serving).rollout.steps
    assert [step.percent for step in steps] == [5, 25, 100]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.baselines=[popularity, item-knn, foo]", r"--set: evaluation\.baselines\.2"),
        ("training.epochs=[", r"--set 'training\.epochs=\[': the value is not valid YAML"),
        ("training.zzz=1", r"--set: unknown key 'training\.zzz'\. Allowed here"),
    ],
)
def test_a_wrong_override_is_not_blamed_on_the_file(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, GOOD, override)


def test_a_key_that_stands_twice_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"key stands twice: epochs(.|\n)*line 13"):
        load(tmp_path, GOOD + "  epochs: 4\n")


def test_a_file_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match=r"run\.yaml is not UTF-8 text"):
        load_config(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read config '.*absent\.yaml'"):
        load_config(tmp_path / "absent.yaml")


def test_overrides_are_read_as_yaml_and_checked_like_the_file(tmp_path):
    config = load(tmp_path, GOOD, "training.epochs=7", "serving.port=9000")
    assert (config.training.epochs, config.serving.port) == (7, 9000)
    with pytest.raises(ConfigError, match=r"unknown key 'serving\.prot'.*'port'"):
        load(tmp_path, GOOD, "serving.prot=1")
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load(tmp_path, GOOD, "training.epochs")
