"""What the lane needs, and what to do where it is missing."""

import json
import os
import re
import shutil
import time
from pathlib import Path

from kubectl import Kubectl, KubectlFailed

CRDS = Path(__file__).parent / "crds"
# Resource definitions that the manifests need, and whose they are.
NEEDED = {
    "inferenceservices.serving.kserve.io": "KServe",
    "servingruntimes.serving.kserve.io": "KServe",
    "clusterstoragecontainers.serving.kserve.io": "KServe",
    "scaledobjects.keda.sh": "KEDA",
    "gateways.gateway.networking.k8s.io": "the Gateway API",
    "httproutes.gateway.networking.k8s.io": "the Gateway API",
    "envoyproxies.gateway.envoyproxy.io": "Envoy Gateway",
    "securitypolicies.gateway.envoyproxy.io": "Envoy Gateway",
    "backendtrafficpolicies.gateway.envoyproxy.io": "Envoy Gateway",
    "clienttrafficpolicies.gateway.envoyproxy.io": "Envoy Gateway",
}
# Those that the lane brings itself and takes away again.
BROUGHT = (
    *("podmonitors.monitoring.coreos.com", "prometheusrules.monitoring.coreos.com"),
    "trainjobs.trainer.kubeflow.org",
)


def find_problem(kubectl: Kubectl) -> str | None:
    """Why the lane cannot run, in one line; None if it can."""
    if shutil.which("kubectl") is None:
        return "kubectl is not on the PATH: install it (kubernetes.io/docs/tasks/tools)"
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            return (
                f"{program} is not on the PATH: by prometheus canaries are judged, and by promtool "
                "the alarms' rules run; install Debian's package 'prometheus', or take both from "
                "prometheus.io/download"
            )
    config = os.environ.get("KUBECONFIG")
    if not config:
        return (
            "KUBECONFIG is not set: name the cluster that the tests may use, as in "
            "`KUBECONFIG=$HOME/.kube/config make test-cluster`"
        )
    missing = [path for path in config.split(os.pathsep) if path and not Path(path).is_file()]
    if missing:
        return f"KUBECONFIG names '{missing[0]}', which is no file"
    try:
        kubectl.run("get", "--raw", "/readyz", "--request-timeout=10s")
    except KubectlFailed as error:
        return f"the cluster of KUBECONFIG={config} does not answer: {_last_line(error)}"
    try:
        known = set(re.findall(r"/(\S+)", kubectl.run("get", "crd", "-o", "name")))
    except KubectlFailed as error:
        return f"the lane needs a cluster's administrator: {_last_line(error)}"
    for name, owner in NEEDED.items():
        if name not in known:
            return (
                f"the cluster has no resource definition '{name}', which is {owner}'s: install it "
                "(manifests/platform/README.md)"
            )
    acting = kubectl.run(
        *("get", "deployments", "-A", "-o", "name"),
        *("-l", "control-plane=kserve-controller-manager"),
    )
    if acting.strip():
        return (
            "KServe's controller runs in this cluster, and the lane plays it: name a cluster that "
            "has the resource definitions only, such as a new kind cluster"
        )
    return None


def bring_definitions(kubectl: Kubectl) -> list[str]:
    """Install the definitions of BROUGHT that are absent; names of those."""
    known = kubectl.run("get", "crd", "-o", "name")
    brought = [name for name in BROUGHT if name not in known]
    for name in brought:
        path = CRDS / f"{name.partition('.')[0]}.yaml"
        kubectl.run("apply", "--server-side", "-f", str(path))
        _wait_until_served(kubectl, name)
    return brought


def _wait_until_served(kubectl: Kubectl, name: str) -> None:
    """Not by `kubectl wait --for=condition`, which fails where there are no conditions yet."""
    for _ in range(120):
        found = json.loads(kubectl.run("get", "crd", name, "-o", "json"))
        conditions = found.get("status", {}).get("conditions") or []
        if any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
            return
        time.sleep(0.5)
    raise KubectlFailed(f"the definition {name} is not served after a minute")


def _last_line(error: KubectlFailed) -> str:
    return str(error).strip().splitlines()[-1]
