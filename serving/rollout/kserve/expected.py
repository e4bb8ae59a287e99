"""Which golden answers a version's pods are held to: what their Triton was told to run says it."""

from collections.abc import Sequence

from serving.kubernetes.api import Object
from serving.kubernetes.errors import ClusterError
from serving.kubernetes.seen import serves_on_gpu
from serving.rollout.expected import Expected, on_cpu, on_gpu
from serving.version import ModelVersion


def expected_of(version: ModelVersion, pods: Sequence[Object]) -> Expected:
    """Of all pods that may answer.

    Raises:
        ClusterError: some serve on GPUs, others on CPUs.
        VersionError: on GPUs, of a version that has no answers for them.
    """
    gpus = [serves_on_gpu(pod) for pod in pods]
    if any(gpus) and not all(gpus):
        names = {pod["metadata"]["name"]: gpu for pod, gpu in zip(pods, gpus, strict=True)}
        listed = ", ".join(f"{name} ({'GPU' if gpu else 'CPU'})" for name, gpu in names.items())
        raise ClusterError(
            f"pods of {version.version} serve on CPUs and on GPUs at once, whose answers differ: "
            f"{listed}. Wait until the ServingRuntime's change has reached all of them, and run "
            "the rollout again"
        )
    return on_gpu(version) if all(gpus) else on_cpu(version)
