"""The same search on a cluster: an Experiment of Katib (kubeflow.org/v1beta1, as of Katib 0.19).

A trial is a Job with the pipeline's image and the command of tuning.trial. Its output goes through
Katib's StdOut collector, which its webhook puts beside the container.
"""

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from recommender.config import Section
from recommender.errors import KuberecError
from tuning.base import Base, value_text
from tuning.settings import TuningConfig
from tuning.space import Parameter
from tuning.trial import OBJECTIVE, REPORTED

CONTAINER = "trial"
LABELS = {"app.kubernetes.io/part-of": "kuberec", "kuberec.io/step": "tune"}


class TrialPod(Section):
    """What a trial's pod gets: as the train step's of the same run's pipeline."""

    image: str
    image_pull_secrets: list[str]
    run_as: int
    requests: dict[str, str]
    limits: dict[str, str]
    node_selector: dict[str, str]
    tolerations: list[dict[str, Any]]
    claim: str
    claim_path: str
    claim_sub_path: str
    shared_memory: str | None
    timeout_s: int | None
    env: dict[str, str]


def experiment(
    name: str,
    config: TuningConfig,
    space: Sequence[Parameter],
    base: Base,
    pod: TrialPod,
    windows: str,
    vectors: str,
    *,
    parallel: int,
    namespace: str | None = None,
) -> dict[str, Any]:
    """The object.

    Args:
        windows, vectors: folders as a trial's container sees them.

    Raises:
        KuberecError: a name that Katib refuses, or a choice that its templates cannot carry.
    """
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", name):
        raise KuberecError(
            f"'{name}' cannot name a Katib experiment: at most 40 of a-z, 0-9 and -, a letter "
            "first; give another --study"
        )
    metadata: dict[str, Any] = {"name": name, "labels": {"app.kubernetes.io/part-of": "kuberec"}}
    if namespace:
        metadata["namespace"] = namespace
    additional = [metric for metric in REPORTED.values() if metric != OBJECTIVE]
    spec: dict[str, Any] = {
        "objective": {
            "type": "maximize",
            "objectiveMetricName": OBJECTIVE,
            "additionalMetricNames": additional,
            # The best epoch's, as in a local search.
            "metricStrategies": [{"name": OBJECTIVE, "value": "max"}],
        },
        # Optuna's TPE, as in a local search; Katib's plain `tpe` is Hyperopt's.
        "algorithm": {
            "algorithmName": "multivariate-tpe",
            "algorithmSettings": _settings(
                n_startup_trials=config.startup_trials, random_state=config.seed
            ),
        },
        "parallelTrialCount": min(parallel, config.trials),
        "maxTrialCount": config.trials,
        "maxFailedTrialCount": min(config.trials, max(3, config.trials // 4)),
        "resumePolicy": "LongRunning",  # more trials may be asked for when these are done
        "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
        "parameters": [_parameter(each) for each in space],
        "trialTemplate": {
            "primaryContainerName": CONTAINER,
            "successCondition": 'status.conditions.#(type=="Complete")#|#(status=="True")#',
            "failureCondition": 'status.conditions.#(type=="Failed")#|#(status=="True")#',
            "trialParameters": [{"name": each.key, "reference": each.key} for each in space],
            "trialSpec": _job(pod, _command(space, base, windows, vectors)),
        },
    }
    if config.pruner.kind != "none":
        # The one that Katib has: worse than the mean of the others' first `start_step` epochs.
        spec["earlyStopping"] = {
            "algorithmName": "medianstop",
            "algorithmSettings": _settings(
                min_trials_required=max(config.pruner.startup_trials, 1),
                start_step=config.pruner.warmup_epochs,
            ),
        }
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": metadata,
        "spec": spec,
    }


def _settings(**settings: int) -> list[dict[str, str]]:
    return [{"name": name, "value": str(value)} for name, value in settings.items()]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    if parameter.kind == "choice":
        texts = [value_text(value) for value in parameter.choices]
        if bad := next((text for text in texts if re.search(r"['\"\\$\n]", text)), None):
            raise KuberecError(
                f"space: {parameter.key} has the choice {bad!r}, which Katib would put into a "
                "command as it is: it cannot have quotes, backslashes, $ or line breaks"
            )
        numbers = all(type(value) in (int, float) for value in parameter.choices)
        return {
            "name": parameter.key,
            "parameterType": "discrete" if numbers else "categorical",
            "feasibleSpace": {"list": texts},
        }
    feasible = {"min": repr(parameter.low), "max": repr(parameter.high)}
    if parameter.log:
        feasible["distribution"] = "logUniform"
    elif parameter.step is not None:
        feasible["step"] = repr(parameter.step)
    kind = "int" if parameter.kind == "int" else "double"
    return {"name": parameter.key, "parameterType": kind, "feasibleSpace": feasible}


def _command(space: Sequence[Parameter], base: Base, windows: str, vectors: str) -> list[str]:
    """By `sh -c`: Katib would join the words of any other command into a shell's line unquoted."""
    words = [
        *("python", "-m", "tuning.trial", "--windows", windows, "--vectors", vectors),
        *("--base", json.dumps(base.sections(), separators=(",", ":"))),
        *(f"--set={each.key}=${{trialParameters.{each.key}}}" for each in space),
    ]
    return ["sh", "-c", shlex.join(words)]


def _job(pod: TrialPod, command: Sequence[str]) -> dict[str, Any]:
    *shell, line = command
    volumes: list[dict[str, Any]] = [
        {"name": "workspace", "persistentVolumeClaim": {"claimName": pod.claim}},
        {"name": "tmp", "emptyDir": {}},
    ]
    workspace = {"name": "workspace", "mountPath": pod.claim_path, "readOnly": True}
    if pod.claim_sub_path:
        workspace["subPath"] = pod.claim_sub_path
    mounts = [workspace, {"name": "tmp", "mountPath": "/tmp"}]
    if pod.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": pod.shared_memory}
        volumes.append({"name": "shm", "emptyDir": memory})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    container = {
        "name": CONTAINER,
        "image": pod.image,
        "command": shell,
        "args": [line],
        "env": [{"name": name, "value": value} for name, value in sorted(pod.env.items())],
        "resources": {"requests": pod.requests, "limits": pod.limits},
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "securityContext": {
            "runAsUser": pod.run_as,
            "runAsGroup": pod.run_as,
            "fsGroup": pod.run_as,
            "fsGroupChangePolicy": "OnRootMismatch",
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    if pod.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in pod.image_pull_secrets]
    if pod.node_selector:
        spec["nodeSelector"] = pod.node_selector
    if pod.tolerations:
        spec["tolerations"] = pod.tolerations
    # Istio's sidecar would outlive the training, and the Job with it.
    metadata = {"labels": LABELS, "annotations": {"sidecar.istio.io/inject": "false"}}
    job: dict[str, Any] = {
        "backoffLimit": 0,  # a pod's second try would mix its scores with the first one's
        "template": {"metadata": metadata, "spec": spec},
    }
    if pod.timeout_s:
        job["activeDeadlineSeconds"] = pod.timeout_s
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": job}
