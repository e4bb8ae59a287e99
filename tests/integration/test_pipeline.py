"""The whole pipeline on a slice of MovieLens-100K: killed, started again, repeated, asked.

One module-wide run serves every test.
"""

import html
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
import yaml
from slice_workplace import KUBEREC, RUN_TIMEOUT_S, steps_from_cache, workplace

from recommender.files import read_json

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with workplace(tmp_path_factory.mktemp("place")) as place:
        yield place


@pytest.fixture(scope="module")
def killed(place) -> Path:
    """A run that was killed, with everything it had started, in the midst of training."""
    endless = ["--set", "training.epochs=500", "--set", "training.patience=500"]
    command = [str(KUBEREC), "run", "slice.yaml", *endless]
    run = subprocess.Popen(
        command,
        cwd=place.folder,
        env=place.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while time.monotonic() < deadline and run.poll() is None:
        logs = list(place.folder.glob("runs/*/run.log"))
        if logs and re.search(r"\[kuberec\] train [1-9]", logs[0].read_text()):
            break
        time.sleep(0.1)
    assert run.poll() is None, logs[0].read_text()[-3000:]
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    return place.runs()[-1]


@pytest.fixture(scope="module")
def finished(place, killed) -> subprocess.CompletedProcess[str]:
    done = place.kuberec("run", "slice.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_killed_run_leaves_whole_artifacts_only_and_is_told_as_killed(place, killed):
    artifacts = {path.name: path for path in killed.glob("steps/*/*/*") if path.is_dir()}
    whole = {name for name in artifacts if not name.endswith(".partial")}
    assert {"snapshot", "item_vectors", "windows"} <= whole
    assert "trained_model" not in whole
    assert "killed" in place.kuberec("runs").stdout


def test_the_run_after_a_kill_reuses_what_was_finished(finished):
    cached = steps_from_cache(finished.stdout)
    assert {"ingest", "encode-items", "build-features"} <= cached
    assert "train" not in cached


def test_the_screen_says_what_a_person_wants_to_know(place, finished):
    screen = finished.stdout
    assert "GroupLens" in screen
    for word in ("popularity", "item-knn", "NDCG@10", "as served", "Triton, grpc", "recommended"):
        assert word in screen, word
    assert f"127.0.0.1:{place.port}" in screen
    assert "report.html" in screen
    assert "No version served before" in screen
    assert "rollout.html" in screen


def test_the_report_is_one_page_with_a_link_to_the_data_docs(place, finished):
    folder = place.runs()[-1]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 3
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert 'href="data_docs/index.html"' in page
    assert (folder / "data_docs" / "index.html").is_file()
    assert 'href="rollout.html"' in page
    first = (folder / "rollout.html").read_text(encoding="utf-8")
    assert f"No version served before {place.summary()['version']}" in first
    compression = (folder / "compression.html").read_text(encoding="utf-8")
    assert "within its budgets" in compression


def test_the_model_card_is_written_and_in_the_report(place, finished):
    folder, version = place.runs()[-1], place.summary()["version"]
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    page = html.unescape((folder / "report.html").read_text(encoding="utf-8"))
    assert card == place.kuberec("card", folder.name).stdout
    said = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["card"]
    for text in (version, "there was no champion", *said["intended_use"], *said["limits"]):
        assert text in " ".join(card.replace("\\", "").split()), text
        assert text in " ".join(page.split()), text


def test_golden_numbers(place, finished):
    """A fixed seed gives these numbers; the tolerance is for other processors' arithmetic."""
    summary = place.summary()
    golden = read_json(Path(__file__).parent / "golden_pipeline.json")
    tables = {row["table"]: row["kept"] for row in summary["data"]["tables"]}
    assert tables == golden["kept"]
    rankers = {row["ranker"]: row for row in summary["evaluation"]["rankers"]}
    for ranker, metrics in golden["test"].items():
        for name, value in metrics.items():
            found = rankers[ranker][name]
            tolerance = 0.01 if ranker != "model" else 0.02
            assert found == pytest.approx(value, abs=tolerance), (ranker, name)
    # What was learnt is more than what is popular, and quantising did not lose it.
    popular = rankers["popularity"]["ndcg@10"]
    assert rankers["model"]["ndcg@10"] > popular + 0.02
    assert summary["compression"]["rows"][-1]["ndcg@10"] > popular + 0.02


def ask(module, url: str, history: list[str], exclude: list[str] | None = None):
    inputs = []
    for name, ids in (("history", history), ("exclude", exclude)):
        if ids is not None:
            tensor = module.InferInput(name, [1, len(ids)], "BYTES")
            tensor.set_data_from_numpy(np.array([ids], dtype=object).reshape(1, len(ids)))
            inputs.append(tensor)
    answer = module.InferenceServerClient(url).infer("recommend", inputs)
    return [item.decode() for item in answer.as_numpy("item_ids")[0]], answer.as_numpy("scores")[0]


@pytest.mark.parametrize("module", [tritonclient.grpc, tritonclient.http], ids=["grpc", "http"])
def test_the_endpoint_answers_plain_tritonclient(place, finished, module):
    url = f"127.0.0.1:{place.port}"
    items, scores = ask(module, url, ["50", "181", "100"], ["174"])
    assert len(items) == len(set(items)) == 20
    assert not {"50", "181", "100", "174"} & set(items)
    assert list(scores) == sorted(scores, reverse=True)
    popular, _ = ask(module, url, [])
    assert popular == ask(module, url, ["no such item"])[0] != items


def test_the_endpoint_answers_curl(place, finished):
    body = {
        "inputs": [{"name": "history", "datatype": "BYTES", "shape": [1, 2], "data": ["50", "1"]}]
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{place.port}/v2/models/recommend/infer", json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        outputs = {each["name"]: each["data"] for each in json.load(response)["outputs"]}
    assert len(outputs["item_ids"]) == len(outputs["scores"]) == 20


def test_recommend_goes_by_user(place, finished):
    sample = place.summary()["samples"][0]
    user, expected = sample["user"], [item["item_id"] for item in sample["recommendations"][:5]]
    events = [line.split("\t") for line in (place.folder / "events.tsv").read_text().splitlines()]
    assert {item["item_id"] for item in sample["history"]} == {e[1] for e in events if e[0] == user}

    done = place.kuberec("recommend", "--user", user, "-k", "5", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [item["item_id"] for item in answer["recommendations"]] == expected
    assert all(item["title"] for item in answer["recommendations"])
    assert (answer["version"], answer["feature_status"]) == (place.summary()["version"], "ok")

    arguments = ["--user", user, "-k", "4", "--exclude", expected[0], "--timeout", "5"]
    done = place.kuberec("recommend", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"user {user}: {len(sample['history'])} items seen" in done.stdout
    shown = re.findall(r"^│ \d+ │ (\S+)", done.stdout, re.MULTILINE)
    assert shown == expected[1:]


def test_more_items_than_a_version_answers_are_refused_with_the_limit(place, finished):
    done = place.kuberec("recommend", "--item", "50", "-k", "21")
    assert done.returncode == 1
    assert "20" in done.stderr
    assert "export.k" in done.stderr


def test_a_second_run_reuses_the_work_and_the_server(place, finished):
    before = place.summary()
    done = place.kuberec("run", "slice.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    cached = steps_from_cache(done.stdout)
    assert {"ingest", "encode-items", "build-features", "train", "compress"} <= cached
    after = place.summary()
    assert after["version"] == before["version"]
    assert after["serving"]["reused"]


def test_a_failed_gate_stops_the_run_and_leaves_the_endpoint_alone(place, finished):
    done = place.kuberec("run", "slice.yaml", "--set", "evaluation.min_ndcg=0.99")
    assert done.returncode == 1
    assert "gate 'evaluate' failed" in done.stderr
    assert ">= 0.9900" in done.stderr
    assert "Traceback" not in done.stderr
    steps = {path.name for path in place.runs()[-1].glob("steps/*/*")}
    assert "evaluate" in steps
    (report,) = place.runs()[-1].glob("steps/*/evaluate/evaluation_report")
    assert f"report: {report}" in done.stderr
    assert not steps & {"compress", "export-version", "materialize", "rollout"}
    assert ask(tritonclient.grpc, f"127.0.0.1:{place.port}", ["50"])[0]


def champion(place) -> dict:
    """What `kuberec models` says of it."""
    rows = json.loads(place.kuberec("models", "list", "--json").stdout)
    (found,) = [row for row in rows if "champion" in row["aliases"]]
    return found


def test_the_version_that_serves_is_the_champion(place, finished):
    found = champion(place)
    assert found["version"] == place.summary()["version"]
    assert (found["registered"], found["serves_as"]) == ("1", [found["version"]])


def test_a_model_that_is_much_worse_than_the_champion_is_stopped(place, finished):
    """It learns next to nothing, on the same data; the gate says in which slices that is seen."""
    before = champion(place)
    worse = ("--set", "training.epochs=1", "--set", "training.learning_rate=1e-7")
    done = place.kuberec("run", "slice.yaml", *worse)
    assert done.returncode == 1
    assert "gate 'evaluate' failed" in done.stderr
    assert re.search(r"FAIL +test NDCG@10 against champion 1 ", done.stderr)
    slices = r"FAIL +test NDCG@10 of activity '[^']+' \(\d+ users\) against champion 1 "
    assert re.search(slices, done.stderr)
    (report,) = place.runs()[-1].glob("steps/*/evaluate/evaluation_report")
    compared = read_json(report)["champion"]
    assert (compared["version"], compared["name"]) == ("1", before["version"])
    assert compared["difference_interval"][1] < 0
    assert champion(place) == before


def test_the_endpoint_can_be_stopped_and_served_again(place, finished):
    version = place.summary()["version"]
    assert version in place.kuberec("status").stdout
    assert place.kuberec("stop").returncode == 0
    done = place.kuberec("recommend", "--item", "50")
    assert done.returncode == 1
    assert "kuberec serve" in done.stderr
    served = place.kuberec("serve", "--detach")
    assert served.returncode == 0, served.stderr
    assert version in served.stdout
    assert place.kuberec("recommend", "--item", "50").returncode == 0
    assert "already serving" in place.kuberec("serve").stdout
    nowhere = place.kuberec("rollback")
    assert nowhere.returncode == 1
    assert "no earlier model version" in nowhere.stderr


def test_serving_in_the_foreground_ends_with_ctrl_c(place, finished):
    assert place.kuberec("stop").returncode == 0
    serve = subprocess.Popen(
        [str(KUBEREC), "serve"],
        cwd=place.folder,
        env=place.environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert serve.stdout is not None
    said = ""
    for line in serve.stdout:  # to its end, should it end early
        said += line
        if line == "Ctrl-C stops it\n":
            break
    assert serve.poll() is None, said
    assert place.summary()["version"] in said
    assert ask(tritonclient.grpc, f"127.0.0.1:{place.port}", ["50"])[0]
    os.killpg(serve.pid, signal.SIGINT)
    assert serve.wait(timeout=30) == 0
    assert "nothing serves" in place.kuberec("status").stdout


def test_the_benchmark_measures_every_system_on_this_version(place, finished, tmp_path):
    command = [sys.executable, "-m", "benchmarks.serving", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(
        [*command, "--runs", str(place.folder / "runs")],
        cwd=Path(__file__).resolve().parents[2],
        env=place.environment() | {"KUBEREC_HOME": str(place.folder / ".kuberec")},
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = read_json(tmp_path / "serving.json")["figures"]
    assert figures["version"] == place.summary()["version"]
    assert figures["errors"] == {}
    assert figures["overlap"]["the whole way"] == 1.0
    for levels in figures["systems"].values():
        assert all(found["answers_per_s"] > 10 for found in levels.values())
    assert set(figures["start_s"]) == {"Triton", "transformer", "peer"}
    assert (tmp_path / "serving.md").read_text().count("\n| ") > 20


OTHER_SEED = ("--set", "training.seed=8")


@pytest.fixture(scope="module")
def refused(place, finished) -> subprocess.CompletedProcess[str]:
    """A run whose model recommends other items than the one that serves, which may not be."""
    served = place.kuberec("serve", "--detach")
    assert served.returncode == 0, served.stderr
    same = ("--set", "serving.rollout.ranking.min_overlap=1")
    return place.kuberec("run", "slice.yaml", *OTHER_SEED, *same)


def test_a_canary_that_is_rolled_back_fails_the_run_and_the_timeline_says_why(place, refused):
    assert refused.returncode == 1, refused.stdout
    assert "was rolled back at 25 %" in refused.stderr
    assert re.search(r"FAIL +top-10 overlap: .*limit >= 1", refused.stderr)
    page = place.runs()[-1] / "rollout.html"
    assert f"the rollout over time: {page.relative_to(place.folder)}" in refused.stderr
    assert page.read_text(encoding="utf-8").count("<svg") == 1
    assert "top-10 overlap" in page.with_suffix(".md").read_text(encoding="utf-8")
    assert not (page.parent / "report.html").exists()
    assert champion(place)["registered"] == "1"  # the candidate does not serve
    serving = place.kuberec("status").stdout
    assert f"{place.summary()['version']} serves" in serving
    assert "rolled back" in place.kuberec("rollout", "history").stdout


def test_a_canary_takes_over_step_by_step(place, refused):
    before = place.summary()["version"]
    done = place.kuberec("run", "slice.yaml", *OTHER_SEED)
    assert done.returncode == 0, done.stdout + done.stderr
    after = place.summary()
    assert after["version"] != before == after["serving"]["previous"]
    assert [step["percent"] for step in after["rollout"]["steps"]] == [25, 100]
    assert "timeline" not in after["serving"]
    for share in (25, 100):
        assert re.search(rf"^  rollout +step: {after['version']} gets {share} %", done.stdout, re.M)
        assert re.search(rf"^  rollout +{share} %: promote: all ", done.stdout, re.M)
    folder = place.runs()[-1]
    assert 'href="rollout.html"' in (folder / "report.html").read_text(encoding="utf-8")
    assert (folder / "rollout.html").read_text(encoding="utf-8").count("<svg") == 1
    assert f"{after['version']} serves" in place.kuberec("status").stdout
    assert ask(tritonclient.grpc, f"127.0.0.1:{place.port}", ["50"])[0]


def test_the_next_champion_was_compared_with_the_one_before(place, refused):
    """After `a canary takes over`: who serves is champion, there and back."""
    after = place.summary()
    found = champion(place)
    assert (found["registered"], found["version"]) == ("2", after["version"])
    (report,) = place.runs()[-1].glob("steps/*/evaluate/evaluation_report")
    compared = read_json(report)
    before = after["serving"]["previous"]
    assert (compared["champion"]["version"], compared["champion"]["name"]) == ("1", before)
    assert any("champion 1" in check["name"] for check in compared["gate"])
    card = (place.runs()[-1] / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "champion, version 1" in card
    back = place.kuberec("rollback")
    assert f"{before} serves again" in " ".join(back.stdout.split()), back.stderr
    assert champion(place)["version"] == before
