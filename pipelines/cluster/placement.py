"""The `cluster` section applied to the pipeline's tasks, while it is compiled.

Everything ends up in the compiled YAML: image, resources, retries and variables in the pipeline
spec, all that only Kubernetes knows in the platform spec.
"""

from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask

from components.step import GATE_SUFFIX, HOME_VARIABLE
from components.trainjob.settings import NODES_VARIABLE, NodesPlan
from pipelines.cluster_settings import ClusterConfig, ConfigMapConfig, StepConfig

STEP_LABEL = "kuberec.io/step"
FEAST_VARIABLE, REGISTRY_VARIABLE = "FEAST_FS_YAML_FILE_PATH", "KUBEREC_FEATURE_REGISTRY"
FEATURE_STORE_FILE = "feature_store.yaml"
WAITING = {
    **{"cpu": "200m", "memory": "1Gi", "cpu_limit": None, "gpu": None, "shared_memory": None},
    **{"node_selector": None, "tolerations": None},
}
# A gate reads one small file and says yes or no.
JUDGING = {
    **{"cpu": "10m", "memory": "512Mi", "cpu_limit": None, "gpu": None, "shared_memory": None},
    "retries": None,
}


def place(step: str, task: PipelineTask, cluster: ClusterConfig) -> None:
    """Give a task what the config says for it."""
    task.set_container_image(cluster.image)
    wanted = cluster.step(step)
    if step == "train" and cluster.training.nodes > 1:
        # The nodes get all of it; the step's own pod carries files and waits.
        task.set_env_variable(NODES_VARIABLE, nodes_plan(cluster).model_dump_json())
        wanted = wanted.model_copy(update=WAITING)
    if step.endswith(GATE_SUFFIX):
        wanted = wanted.model_copy(update=JUDGING)
    _resources(task, wanted)
    for name, value in (_variables(step, cluster) | (wanted.env or {})).items():
        task.set_env_variable(name, value)
    _identity(step, task, cluster)
    for volume in cluster.mounts(step):
        kubernetes.mount_pvc(task, volume.claim, volume.path, volume.sub_path)
    kubernetes.empty_dir_mount(task, "tmp", "/tmp", size_limit=wanted.scratch)
    if wanted.shared_memory:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", "Memory", wanted.shared_memory)
    for secret in cluster.secrets:
        if step in secret.steps:
            kubernetes.use_secret_as_env(task, secret.name, secret.keys, secret.optional)
    for config_map in cluster.config_maps:
        if step in config_map.steps:
            _config_map(task, config_map)
    for key, value in (wanted.node_selector or {}).items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in wanted.tolerations or []:
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))
    if wanted.timeout_s:
        kubernetes.set_timeout(task, wanted.timeout_s)


def nodes_plan(cluster: ClusterConfig) -> NodesPlan:
    """What the train step is told about the nodes that it asks for."""
    wanted = cluster.step("train")
    requests = {"cpu": wanted.cpu, "memory": wanted.memory}
    limits = {"cpu": wanted.cpu_limit, "memory": wanted.memory}
    if wanted.gpu:
        limits[wanted.gpu.type] = str(wanted.gpu.count)
    return NodesPlan(
        nodes=cluster.training.nodes,
        processes=cluster.training.processes or (wanted.gpu.count if wanted.gpu else 1),
        runtime=cluster.training.runtime,
        start_timeout_s=cluster.training.start_timeout_s,
        timeout_s=wanted.timeout_s,
        image=cluster.image,
        image_pull_secrets=cluster.image_pull_secrets,
        run_as=cluster.run_as,
        requests={name: value for name, value in requests.items() if value},
        limits={name: value for name, value in limits.items() if value},
        node_selector=wanted.node_selector or {},
        tolerations=[each.model_dump(exclude_none=True) for each in wanted.tolerations or []],
        claim=cluster.workspace.claim,
        claim_path=cluster.workspace.path,
        claim_sub_path=cluster.workspace.sub_path,
        shared_memory=wanted.shared_memory,
        env=_variables("train", cluster) | (wanted.env or {}),
    )


def _resources(task: PipelineTask, wanted: StepConfig) -> None:
    if wanted.cpu:
        task.set_cpu_request(wanted.cpu)
    if wanted.cpu_limit:
        task.set_cpu_limit(wanted.cpu_limit)
    if wanted.memory:
        task.set_memory_request(wanted.memory).set_memory_limit(wanted.memory)
    if wanted.gpu:
        task.set_accelerator_type(wanted.gpu.type).set_accelerator_limit(wanted.gpu.count)
    if wanted.retries and wanted.retries.count:
        task.set_retry(
            wanted.retries.count,
            backoff_duration=f"{wanted.retries.backoff_s}s",
            backoff_factor=wanted.retries.factor,
            backoff_max_duration=f"{wanted.retries.max_s}s",
        )


def _variables(step: str, cluster: ClusterConfig) -> dict[str, str]:
    """What every step's process is told; the root file system may be read-only."""
    variables = {
        HOME_VARIABLE: cluster.workspace.path,
        "PYTHONUNBUFFERED": "1",
        "MPLCONFIGDIR": "/tmp/matplotlib",
    }
    for config_map in cluster.config_maps:
        if config_map.name == "feature-store" and config_map.path and step in config_map.steps:
            variables[FEAST_VARIABLE] = f"{config_map.path}/{FEATURE_STORE_FILE}"
            variables[REGISTRY_VARIABLE] = f"{cluster.workspace.path}/feature_store/registry.db"
    return variables


def _identity(step: str, task: PipelineTask, cluster: ClusterConfig) -> None:
    kubernetes.add_pod_label(task, STEP_LABEL, step)
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "kuberec")
    kubernetes.set_security_context(
        task,
        run_as_user=cluster.run_as,
        run_as_group=cluster.run_as,
        run_as_non_root=True,
    )
    if cluster.image_pull_secrets:
        names: list[Any] = list(cluster.image_pull_secrets)
        kubernetes.set_image_pull_secrets(task, names)
    if cluster.image_pull_policy:
        kubernetes.set_image_pull_policy(task, cluster.image_pull_policy)


def _config_map(task: PipelineTask, config_map: ConfigMapConfig) -> None:
    if config_map.path:
        kubernetes.use_config_map_as_volume(
            task, config_map.name, config_map.path, config_map.optional
        )
    else:
        kubernetes.use_config_map_as_env(
            task, config_map.name, config_map.keys, config_map.optional
        )
