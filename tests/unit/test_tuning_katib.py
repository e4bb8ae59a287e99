"""The Experiment for Katib: the same space, and a command that a shell and our parser take."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tuning_scene import BASE, tuning
from typer.testing import CliRunner

from pipelines.cli import app
from recommender.errors import KuberecError
from tuning.base import Base
from tuning.katib import TrialPod, experiment
from tuning.process import METRIC
from tuning.space import check_space
from tuning.trial import OBJECTIVE

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "pipelines/spaces/transformer.yaml"
SPACE = {
    "model.dim": {"choices": [8, 16]},
    "model.fusion": {"choices": ["sum", "gate"]},
    "model.layers": {"low": 1, "high": 3},
    "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
}
POD = TrialPod(
    image="registry.test/pipeline@sha256:" + "a" * 64,
    image_pull_secrets=["registry"],
    run_as=1000,
    requests={"cpu": "2"},
    limits={"memory": "4Gi", "nvidia.com/gpu": "1"},
    node_selector={"pool": "gpu"},
    tolerations=[{"key": "gpu", "operator": "Exists"}],
    claim="kuberec-home",
    claim_path="/kuberec/home",
    claim_sub_path="",
    shared_memory="1Gi",
    timeout_s=3600,
    env={"PYTHONUNBUFFERED": "1"},
)


def made(name="search", **changes):
    config = tuning(**{"space": SPACE, "trials": 12, **changes})
    space = check_space(config, BASE)
    return experiment(name, config, space, BASE, POD, "/in/windows", "/in/vectors", parallel=2)


def test_parameters_are_the_space():
    spec = made()["spec"]
    assert {
        each["name"]: (each["parameterType"], each["feasibleSpace"]) for each in spec["parameters"]
    } == {
        "model.dim": ("discrete", {"list": ["8", "16"]}),
        "model.fusion": ("categorical", {"list": ["sum", "gate"]}),
        "model.layers": ("int", {"min": "1", "max": "3"}),
        "model.dropout": ("double", {"min": "0.0", "max": "0.5", "step": "0.1"}),
        "training.learning_rate": (
            "double",
            {"min": "0.0001", "max": "0.01", "distribution": "logUniform"},
        ),
    }
    assert (spec["maxTrialCount"], spec["parallelTrialCount"]) == (12, 2)
    assert spec["objective"]["objectiveMetricName"] == OBJECTIVE
    references = [each["reference"] for each in spec["trialTemplate"]["trialParameters"]]
    assert references == list(SPACE)


def test_what_katib_puts_into_the_command_reaches_the_trial_as_its_config():
    (container,) = made()["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["command"] == ["sh", "-c"]  # or Katib would join our words unquoted
    (line,) = container["args"]
    chosen = {"model.dim": "16", "model.fusion": "gate", "model.layers": "3"}
    chosen |= {"model.dropout": "0.30000000000000004", "training.learning_rate": "1e-03"}
    for key, value in chosen.items():  # as Katib's generator does, text for text
        line = line.replace(f"${{trialParameters.{key}}}", value)
    assert "${" not in line
    # As a shell splits it, with the program replaced by one that shows its arguments.
    show = f"{shlex.quote(sys.executable)} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
    shown = subprocess.run(
        ["sh", "-c", line.replace("python -m tuning.trial", show, 1)],
        capture_output=True,
        text=True,
        check=True,
    )
    arguments = json.loads(shown.stdout)
    assert Base.read(arguments[arguments.index("--base") + 1]) == BASE
    told = [each.removeprefix("--set=") for each in arguments if each.startswith("--set=")]
    assert told == [f"{key}={value}" for key, value in chosen.items()]


def test_medians_pruner_becomes_median_stopping_and_none_becomes_nothing():
    assert "earlyStopping" not in made(pruner={"kind": "none"})["spec"]
    stopping = made(pruner={"startup_trials": 3, "warmup_epochs": 6})["spec"]["earlyStopping"]
    assert stopping["algorithmName"] == "medianstop"
    assert {each["name"]: each["value"] for each in stopping["algorithmSettings"]} == {
        "min_trials_required": "3",
        "start_step": "6",
    }


def test_what_katib_could_not_carry_is_refused():
    with pytest.raises(KuberecError, match="cannot name a Katib experiment"):
        made(name="2nd_search")


def test_katibs_collector_reads_what_a_trial_prints():
    line = "2026-01-31T12:00:00.123Z epoch=3 train_loss=6.041000 valid_ndcg_at_10=0.112700"
    found = {name: float(value) for name, value, *_ in METRIC.findall(line)}
    assert found == {"epoch": 3, "train_loss": 6.041, OBJECTIVE: 0.1127}


def test_the_command_writes_the_manifest_of_a_shipped_space(tmp_path):
    target = tmp_path / "experiment.yaml"
    config = str(ROOT / "pipelines/configs/movielens-1m.yaml")
    result = CliRunner().invoke(app, ["tune", config, "--katib", str(target), "--trials", "7"])
    assert result.exit_code == 0, result.output
    content = yaml.safe_load(target.read_text(encoding="utf-8"))
    space = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    assert [each["name"] for each in content["spec"]["parameters"]] == list(space["space"])
    assert content["spec"]["maxTrialCount"] == 7
    assert content["metadata"]["name"] == "movielens-1m-transformer"
