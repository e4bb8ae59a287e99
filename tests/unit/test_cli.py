"""The command line, as far as it needs neither a run nor a server."""

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from serving.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "pipelines" / "configs" / "movielens-100k.yaml"
KUBEREC = Path(sys.executable).parent / "kuberec"


def kuberec(
    *arguments: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(KUBEREC), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        env=os.environ | environment,
    )


def test_help_names_every_command():
    help_text = kuberec("--help").stdout
    for command in (
        *("run", "compile", "submit", "serve", "status", "rollback", "stop"),
        *("recommend", "runs", "schedule", "rollout"),
    ):
        assert command in help_text


def test_the_rollouts_help_names_what_an_operator_can_do():
    help_text = kuberec("rollout", "--help").stdout
    for command in ("status", "promote", "abort", "history"):
        assert command in help_text
    assert "kuberec rollout abort" in kuberec("rollback", "--help").stdout


def test_before_the_first_rollout_there_is_nothing_to_decide(tmp_path):
    assert "there was no rollout yet" in kuberec("rollout", "history", cwd=tmp_path).stdout
    shown = kuberec("rollout", "status", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "nothing" in shown.stdout
    for command in ("promote", "abort"):
        done = kuberec("rollout", command, cwd=tmp_path)
        assert done.returncode == 1
        assert "no rollout is under way or held" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_rollout_on_a_cluster_wants_to_know_where(tmp_path):
    done = kuberec("rollout", "status", "--target", "kserve", cwd=tmp_path)
    assert done.returncode == 1
    assert "--config" in done.stderr


def test_help_loads_no_heavy_library():
    script = (
        "import sys, pipelines.cli\n"
        "heavy = {'torch', 'kfp', 'feast', 'great_expectations', 'lightning', 'ibis', 'onnx',\n"
        "         'pandas', 'transformers', 'matplotlib', 'tritonclient', 'scipy',\n"
        "         'mlflow', 'optuna'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]", loaded.stderr


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict:
    target = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    done = kuberec("compile", str(CONFIG), "-o", str(target), "--image", "registry.test/python@x")
    assert done.returncode == 0, done.stderr
    return next(yaml.safe_load_all(target.read_text()))


def test_the_compiled_pipeline_has_every_step_in_the_given_image(compiled):
    tasks = set(compiled["root"]["dag"]["tasks"])
    assert tasks == {
        *("ingest", "validate", "encode-items", "build-features", "check-catalogue", "train"),
        "evaluate",
        *("compress", "export-version", "materialize", "rollout", "report"),
        *("validate-gate", "evaluate-gate", "compress-gate", "export-version-gate"),
        "rollout-gate",
    }
    executors = compiled["deploymentSpec"]["executors"].values()
    assert {each["container"]["image"] for each in executors} == {"registry.test/python@x"}


def test_the_config_becomes_the_pipelines_default_arguments(compiled):
    defaults = {
        name: each.get("defaultValue")
        for name, each in compiled["root"]["inputDefinitions"]["parameters"].items()
    }
    assert defaults["source"]["name"] == "MovieLens-100K"
    assert defaults["training"]["seed"] == 42
    assert defaults["target"] == "kserve"
    assert "cluster" not in defaults


def test_nothing_runs_before_the_gate_it_depends_on(compiled):
    tasks = compiled["root"]["dag"]["tasks"]

    def before(task: str) -> set[str]:
        direct = set(tasks[task].get("dependentTasks", []))
        return direct.union(*(before(each) for each in direct))

    order = {
        "validate-gate": set(tasks) - {"ingest", "validate", "validate-gate"},
        "evaluate-gate": {"compress", "export-version", "materialize", "rollout", "report"},
        "compress-gate": {"export-version", "materialize", "rollout", "report"},
        "export-version-gate": {"materialize", "rollout", "report"},
        "rollout-gate": {"report"},
    }
    for gate, after in order.items():
        assert gate.removesuffix("-gate") in before(gate)
        assert after <= {task for task in tasks if gate in before(task)}
    assert "materialize" in before("rollout")
    assert {"build-features", "check-catalogue"} <= before("train")


def test_the_compression_leaves_a_page(compiled):
    outputs = compiled["components"]["comp-compress"]["outputDefinitions"]["artifacts"]
    assert outputs["compression_page"]["artifactType"]["schemaTitle"] == "system.HTML"


def test_the_rollout_leaves_its_timeline_as_a_page_and_as_markdown(compiled):
    outputs = compiled["components"]["comp-rollout"]["outputDefinitions"]["artifacts"]
    kinds = {name: each["artifactType"]["schemaTitle"] for name, each in outputs.items()}
    assert kinds == {
        "rollout_report": "system.Artifact",
        "timeline": "system.HTML",
        "timeline_text": "system.Markdown",
    }


def test_state_changing_steps_are_never_cached(compiled):
    tasks = compiled["root"]["dag"]["tasks"]
    uncached = {name for name, task in tasks.items() if not task.get("cachingOptions")}
    # And `ingest` and `evaluate`, which read what is there now: the source, the champion.
    reads = {"ingest", "evaluate"}
    gates = {name for name in tasks if name.endswith("-gate")}
    looks = {"validate", "check-catalogue"}
    assert reads | looks | {"materialize", "rollout", "report", *gates} == uncached


def test_a_host_that_is_not_there_is_named_with_a_way_to_reach_it(tmp_path):
    done = kuberec("submit", str(CONFIG), "--host", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot reach a Kubeflow Pipelines API at http://127.0.0.1:9" in done.stderr
    assert "port-forward" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_runs_yet_says_how_to_start_one(tmp_path):
    done = kuberec("runs", cwd=tmp_path)
    assert "kuberec run" in done.stdout


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    done = kuberec("run", str(CONFIG), "--runs", str(tmp_path / "file" / "runs"), cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot write to folder" in done.stderr
    assert "choose another one" in done.stderr


def test_a_taken_port_is_said_before_anything_runs(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = kuberec("run", str(CONFIG), "--set", f"serving.port={port}", cwd=tmp_path)
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "serving.port" in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_a_missing_source_file_is_said_before_anything_runs(tmp_path):
    port, admin_port = free_ports(2)
    ports = ("--set", f"serving.port={port}", "--set", f"serving.admin_port={admin_port}")
    gone = ("--set", "source.events.path=gone.inter")
    done = kuberec("run", str(CONFIG), *gone, *ports, cwd=tmp_path)
    assert done.returncode == 1
    assert "gone.inter" in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_a_missing_part_of_the_endpoint_is_said_before_anything_runs(tmp_path):
    done = kuberec("run", str(CONFIG), cwd=tmp_path, KUBEREC_TRITON_ENV=str(tmp_path / "none"))
    assert done.returncode == 1
    assert "make install" in done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_two_runs_in_one_home_are_refused(tmp_path):
    home = tmp_path / ".kuberec"
    home.mkdir()
    with (home / "run.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        done = kuberec("run", str(CONFIG), cwd=tmp_path)
    assert done.returncode == 1
    assert "another run" in done.stderr
    assert "KUBEREC_HOME" in done.stderr


def test_recommend_wants_a_user_or_items(tmp_path):
    done = kuberec("recommend", cwd=tmp_path)
    assert done.returncode == 1
    assert "--user" in done.stderr


@pytest.mark.parametrize("option", ["--user", "--item"])
def test_recommend_refuses_what_is_no_text(tmp_path, option):
    done = kuberec("recommend", option, b"a\xff", cwd=tmp_path)
    assert done.returncode == 1
    assert "is not UTF-8" in done.stderr
    assert "Traceback" not in done.stderr


def test_recommend_without_an_endpoint_says_how_to_start_one(tmp_path):
    done = kuberec("recommend", "--user", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert "kuberec serve" in done.stderr or "kuberec run" in done.stderr
    assert "Traceback" not in done.stderr
