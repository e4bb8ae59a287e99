"""The train step on several nodes: files over the workspace, a TrainJob, a wait that explains."""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.step import ERROR_PREFIX, PROGRESS_PREFIX
from components.trainjob.settings import NodesPlan
from components.trainjob.spec import KEY_LABEL, MANAGER, NODE, train_job
from recommender.errors import KuberecError
from recommender.files import atomic_directory, write_json
from recommender.progress import Progress
from serving.kubernetes.api import EVENT, POD, Cluster, Object, Resource

TRAIN_JOB = Resource("trainer.kubeflow.org/v1alpha1", "trainjobs", "TrainJob")
POLL_S, LOG_LINES = 5.0, 400
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class TrainJobFailed(KuberecError):
    """The nodes did not train the model."""


def train_on_nodes(
    cluster: Cluster,
    plan: NodesPlan,
    key: str,
    inputs: Mapping[str, Path],
    settings: Mapping[str, Any],
    out_dir: Path,
    workspace: Path,
    progress: Progress,
) -> None:
    """Do what `recommender.training.fit` does, on `plan.nodes` nodes.

    A step that is started again goes on with the TrainJob that it left, as long as that runs; after
    a failure the next job goes on from the last checkpoint. Only files of its own are removed.

    Args:
        cluster: the API server, as the step's service account.
        key: names the training by all that its result depends on.
        inputs: the folders "windows" and "vectors".
        settings: the sections "model" and "training".
        out_dir: gets the model.
        workspace: a folder on the volume that the nodes mount too.

    Raises:
        TrainJobFailed: with conditions, events and the last lines of the nodes' logs.
        ClusterError: the API server refuses, or lacks Kubeflow Trainer.
    """
    namespace = os.environ.get("KFP_NAMESPACE") or _own_namespace()
    key = key[:16]
    folder = workspace / "training" / key
    known = cluster.find_all(TRAIN_JOB, namespace, labelSelector=f"{KEY_LABEL}={key}")
    running = [job for job in known if not _ended(job)]
    if running:
        name = running[0]["metadata"]["name"]
        progress(0, 0, f"going on with TrainJob '{name}'")
    else:
        _put(folder, inputs, settings)
        name = f"kuberec-train-{key[:8]}-{_free_number(known)}"
        cluster.apply(
            TRAIN_JOB, train_job(name, namespace, key, str(folder), plan), MANAGER, force=True
        )
        progress(0, 0, f"TrainJob '{name}' on {plan.nodes} nodes")
    _Watch(cluster, namespace, name, plan).until_done(progress)
    if not (folder / "model" / "training.json").is_file():
        raise TrainJobFailed(
            f"TrainJob '{name}' completed, but left no model in '{folder}': do the nodes mount the "
            f"claim '{plan.claim}' at '{plan.claim_path}', and is it ReadWriteMany?"
        )
    with atomic_directory(out_dir) as draft:
        shutil.copytree(folder / "model", draft, dirs_exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _own_namespace() -> str:
    if _NAMESPACE_FILE.is_file():
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    raise TrainJobFailed(
        "training on several nodes needs a cluster: this is no pod (set KFP_NAMESPACE to name one)"
    )


def _free_number(known: list[Object]) -> int:
    used = {int(job["metadata"]["name"].rpartition("-")[2]) for job in known}
    return max(used, default=0) + 1


def _put(folder: Path, inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> None:
    """Lay the inputs where the nodes see them; checkpoints that are there stay."""
    for name, source in inputs.items():
        with atomic_directory(folder / name) as draft:
            shutil.copytree(source, draft, dirs_exist_ok=True)
    shutil.rmtree(folder / "model", ignore_errors=True)
    write_json(folder / "job.json", dict(settings))


class _Watch:
    """Waits for one TrainJob, and hands on what its first node says."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, plan: NodesPlan) -> None:
        self._cluster, self._namespace, self._name, self._plan = cluster, namespace, name, plan
        self._told: set[str] = set()
        self._all_ran = False

    def until_done(self, progress: Progress) -> None:
        started = time.monotonic()
        while True:
            job = self._cluster.get(TRAIN_JOB, self._namespace, self._name)
            pods = self._pods()
            self._hand_on(pods)
            if condition := _condition(job, "Failed"):
                raise TrainJobFailed(self._explain(_text(condition), pods))
            if _condition(job, "Complete"):
                return
            running = sum(_phase(pod) in ("Running", "Succeeded") for pod in pods)
            self._all_ran = self._all_ran or running >= self._plan.nodes
            waited = time.monotonic() - started
            if not self._all_ran:
                progress(0, 0, f"{running} of {self._plan.nodes} nodes run")
                if waited > self._plan.start_timeout_s:
                    why = f"{running} of {self._plan.nodes} nodes run after {waited:.0f} s"
                    raise TrainJobFailed(self._explain(why, pods))
            time.sleep(POLL_S)

    def _pods(self) -> list[Object]:
        selector = f"jobset.sigs.k8s.io/jobset-name={self._name}"
        return self._cluster.find_all(POD, self._namespace, labelSelector=selector)

    def _hand_on(self, pods: list[Object]) -> None:
        """Progress lines of process 0, each once, as if the step had trained by itself."""
        for pod in pods:
            if _index(pod) != "0" or _phase(pod) == "Pending":
                continue
            for line in self._log(pod):
                if PROGRESS_PREFIX in line and "/" in line and line not in self._told:
                    self._told.add(line)
                    print(line[line.index(PROGRESS_PREFIX) :], flush=True)

    def _log(self, pod: Object) -> list[str]:
        name = pod["metadata"]["name"]
        return self._cluster.logs(self._namespace, name, NODE, lines=LOG_LINES)

    def _explain(self, why: str, pods: list[Object]) -> str:
        lines = [f"TrainJob '{self._name}' in namespace '{self._namespace}' failed: {why}"]
        if not pods:
            lines.append(
                f"it has no pods: is Kubeflow Trainer installed, and is there a "
                f"ClusterTrainingRuntime '{self._plan.runtime}'? (kubectl get "
                "clustertrainingruntimes; another name: cluster.training.runtime)"
            )
        for pod in pods:
            lines += [f"  {text}" for text in _state(pod)]
        lines += [f"  event: {text}" for text in self._events(pods)]
        said = [line for pod in pods if _phase(pod) == "Failed" for line in self._log(pod)]
        errors = [line.split(f"{ERROR_PREFIX} ", 1)[-1] for line in said if ERROR_PREFIX in line]
        lines += [f"  log: {line}" for line in dict.fromkeys(errors or said[-12:])]
        lines.append(
            f"the job is left as it is: kubectl describe trainjob {self._name} -n {self._namespace}"
        )
        return "\n".join(lines)

    def _events(self, pods: list[Object]) -> list[str]:
        ours = {self._name, *(pod["metadata"]["name"] for pod in pods)}
        found = self._cluster.find_all(EVENT, self._namespace, fieldSelector="type=Warning")
        texts = (
            f"{each['reason']}: {each['message']}"
            for each in found
            if each.get("involvedObject", {}).get("name", "") in ours
        )
        return list(dict.fromkeys(texts))[-5:]


def _condition(job: Object, kind: str) -> Object | None:
    conditions = job.get("status", {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)


def _ended(job: Object) -> bool:
    return any(_condition(job, kind) for kind in ("Failed", "Complete"))


def _text(condition: Object) -> str:
    return ": ".join(part for part in (condition.get("reason"), condition.get("message")) if part)


def _phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


def _index(pod: Object) -> str:
    labels = pod["metadata"].get("labels") or {}
    return str(labels.get("batch.kubernetes.io/job-completion-index", ""))


def _state(pod: Object) -> list[str]:
    """Why a pod does not run, or how it ended."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    texts = [
        f"pod {name} cannot be placed: {c.get('message', '')} (cluster.steps.train: cpu, memory, "
        "gpu, node_selector, tolerations)"
        for c in status.get("conditions") or []
        if c["type"] == "PodScheduled" and c["status"] == "False"
    ]
    for container in status.get("containerStatuses") or []:
        state = container.get("state", {})
        if reason := state.get("waiting", {}).get("reason"):
            texts.append(
                f"pod {name}: {reason}: {state['waiting'].get('message', '')}".rstrip(": ")
            )
        if ended := state.get("terminated"):
            texts.append(
                f"pod {name}: {ended.get('reason', 'ended')}, exit status {ended['exitCode']}"
            )
    return texts
