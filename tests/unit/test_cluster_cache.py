"""A cluster's cache key has the names of input artifacts, not their content: is ours sound?

Keys are computed over the compiled pipeline as Kubeflow's driver does it
(backend/src/v2/cacheutils/cache.go): image, command and arguments, values of parameters, names and
types of artifacts, claims. What a step puts out depends on all that it reads; a parameter that a
cached step puts out is its artifact's fingerprint, so here it stands for all of that.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from compiling import compile_pipeline

from pipelines.config import load_config

CONFIG = Path(__file__).resolve().parents[2] / "pipelines" / "configs" / "movielens-100k.yaml"
EXPENSIVE = ("encode-items", "build-features", "train", "evaluate", "compress", "export-version")
FRESH = ("ingest", "evaluate", "rollout")  # what is outside may be another by now
DATA = "the data as ingest found it"


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Keys:
    """The cache keys of one compiled pipeline, and what each step's output truly depends on."""

    def __init__(self, folder: Path, *overrides: str, data: str = DATA) -> None:
        target = folder / "pipeline.yaml"
        compile_pipeline(load_config(CONFIG, overrides), target)
        self.spec, self.platform = yaml.safe_load_all(target.read_text())
        self.tasks = self.spec["root"]["dag"]["tasks"]
        self.data = data

    def inputs(self, task: str, kind: str) -> dict[str, Any]:
        return self.tasks[task].get("inputs", {}).get(kind, {})

    def producers(self, task: str) -> dict[str, set[str]]:
        """Who makes a task's artifacts and computed parameters: {"artifacts": .., "parameters"}."""
        sources = {
            "artifacts": "taskOutputArtifact",
            "parameters": "taskOutputParameter",
        }
        return {
            kind: {
                each[source]["producerTask"]
                for each in self.inputs(task, kind).values()
                if source in each
            }
            for kind, source in sources.items()
        }

    def value(self, each: dict[str, Any]) -> Any:
        if "taskOutputParameter" in each:
            return self.truth(each["taskOutputParameter"]["producerTask"])
        name = each["componentInputParameter"]
        return self.spec["root"]["inputDefinitions"]["parameters"][name]["defaultValue"]

    def key(self, task: str) -> str:
        """What the driver looks up."""
        component = self.spec["components"][self.tasks[task]["componentRef"]["name"]]
        label = component["executorLabel"]
        container = self.spec["deploymentSpec"]["executors"][label]["container"]
        pod = self.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]
        parameters = self.inputs(task, "parameters")
        return digest(
            {
                "image": container["image"],
                "arguments": [*container["command"], *container["args"]],
                "claims": sorted(each["constant"] for each in pod["pvcMount"]),
                "parameters": {name: self.value(each) for name, each in parameters.items()},
                "artifacts": sorted(self.inputs(task, "artifacts")),
                "outputs": component.get("outputDefinitions"),
            }
        )

    def truth(self, task: str) -> str:
        """All that a step's output depends on: its key, and what lies in the artifacts it reads."""
        if task == "ingest":
            return digest([self.key(task), self.data])
        read = sorted(self.producers(task)["artifacts"])
        return digest([self.key(task), *(self.truth(each) for each in read)])


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Keys:
    return Keys(tmp_path_factory.mktemp("before"))


@pytest.mark.parametrize("task", EXPENSIVE)
def test_whoever_reads_an_artifact_is_told_its_fingerprint(before, task):
    cached = before.tasks[task]["cachingOptions"] == {"enableCache": True}
    assert cached == (task not in FRESH)
    read = before.producers(task)
    assert not cached or read["artifacts"] <= read["parameters"]


CHANGES = [
    "text.max_tokens=64",
    "features.k_core=4",
    "model.dropout=0.1",
    "training.seed=1",
    "evaluation.min_hr=0.1",
    "compression.max_quality_loss=0.2",
    "export.golden_requests=8",
    "serving.triton.max_batch_size=8",
    "cluster.image=registry.test/another@sha256:" + "b" * 64,
    "cluster.workspace.claim=another",
    "tracking.uri=http://mlflow.test:5000",
]


@pytest.mark.parametrize("change", ["the data", *CHANGES])
def test_a_step_is_taken_from_the_cache_only_if_all_that_it_depends_on_is_the_same(
    before, change, tmp_path
):
    if change == "the data":
        after = Keys(tmp_path, data="new data")
    else:
        extra = ("cluster.workspace.path=/kuberec/home",) if "claim" in change else ()
        after = Keys(tmp_path, change, *extra)
    changed = set()
    for task in EXPENSIVE:
        same_key = before.key(task) == after.key(task)
        reads = before.producers(task)["artifacts"]
        same_inputs = all(before.truth(each) == after.truth(each) for each in reads)
        assert not same_key or same_inputs or task in FRESH, (
            f"{task} would be taken from the cache, stale"
        )
        changed |= set() if same_key else {task}
    assert "export-version" in changed  # at the end of the chain everything arrives
    if change.startswith("training"):
        assert not changed & {"encode-items", "build-features"}
    if change.startswith("text"):
        assert changed == set(EXPENSIVE)


@pytest.mark.parametrize("task", FRESH)
def test_what_looks_outside_is_never_taken_from_the_cache(before, task):
    """Sources, the champion, what serves."""
    assert not before.tasks[task].get("cachingOptions")
