"""The `cluster` section of a run's YAML: where and how its steps run on Kubeflow Pipelines.

All of it is read when the pipeline is compiled; none of it is a parameter of the pipeline, and a
run on one machine ignores it. Secrets are named here, never written here.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from components.step import GATE_SUFFIX
from recommender.config import Section

# As the components are called in Kubeflow's graph (a test compares them with the pipeline's).
STEPS = (
    *("ingest", "validate", "encode-items", "build-features", "check-catalogue", "train"),
    *("evaluate", "compress", "export-version", "materialize", "rollout", "report"),
)
# Behind these stands a gate, a task of its own; it is called after the step and has no settings.
GATED = ("validate", "evaluate", "compress", "export-version", "rollout")
TASKS = tuple(
    name for step in STEPS for name in (step, *([step + GATE_SUFFIX] if step in GATED else []))
)
HOME_PATH, MODELS_PATH = "/kuberec/home", "/kuberec/models"
_BYTES = r"^[1-9][0-9]*(Ei|Pi|Ti|Gi|Mi|Ki|E|P|T|G|M|K)?$"  # what Kubeflow's SDK takes
_CPU = r"^([0-9]*\.)?[0-9]+m?$"
_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


def check_steps(names: Iterable[str]) -> None:
    """ValueError for what is no step, with the step that was probably meant."""
    for name in names:
        if name not in STEPS:
            close = difflib.get_close_matches(name.replace("_", "-"), STEPS, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            raise ValueError(f"there is no step '{name}'; {hint}steps: {', '.join(STEPS)}")


def _known_steps(names: Any) -> Any:
    """A list of steps, or a dict by step."""
    check_steps(names)
    return names


StepNames = Annotated[list[str], AfterValidator(_known_steps)]
Name = Annotated[str, Field(pattern=_NAME, max_length=253)]
Path = Annotated[str, Field(pattern=r"^/[^:\s]*[^:\s/]$")]


class VolumeConfig(Section):
    """A PersistentVolumeClaim of the pipeline's namespace, mounted in steps."""

    claim: Name
    path: Path
    sub_path: str = Field(default="", description="folder of the volume; by default all of it")
    steps: StepNames = Field(default=list(STEPS), description="those that mount it")


class SecretConfig(Section):
    """Keys of a Secret as environment variables: {key of the Secret: name of the variable}."""

    name: Name
    keys: dict[str, Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]] = Field(
        min_length=1
    )
    steps: StepNames = Field(default=list(STEPS), description="those that see them")
    optional: bool = Field(default=False, description="a missing Secret is no error")


class ConfigMapConfig(Section):
    """A ConfigMap as files in a folder, or its keys as environment variables."""

    name: Name
    path: Path | None = Field(default=None, description="folder that gets one file for each key")
    keys: dict[str, str] = Field(default={}, description="key of the ConfigMap: variable")
    steps: StepNames = Field(default=list(STEPS))
    optional: bool = False

    @model_validator(mode="after")
    def _files_or_variables(self) -> Self:
        if (self.path is None) == (not self.keys):
            raise ValueError(f"ConfigMap '{self.name}': give either path or keys")
        return self


class AcceleratorConfig(Section):
    """What a step needs of a device plugin's resource."""

    type: str = Field(
        default="nvidia.com/gpu",
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        description="resource name as the device plugin offers it",
    )
    count: int = Field(default=1, ge=1, le=64)


class TolerationConfig(Section):
    """A taint that a step's pod may be placed in spite of."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _value_fits_operator(self) -> Self:
        if (self.operator == "Equal") != (self.value is not None):
            raise ValueError("a toleration has a value with operator Equal, and only there")
        return self


class RetryConfig(Section):
    """Again, after a failure of whatever kind; a gate's verdict is none, and is not tried again."""

    count: int = Field(ge=0, le=20, description="attempts after the first")
    backoff_s: int = Field(default=30, ge=0, description="wait before the second attempt")
    factor: float = Field(default=2.0, ge=1, description="each wait is this times the one before")
    max_s: int = Field(default=600, ge=1, description="longest wait")


class StepConfig(Section):
    """What one step gets. A field that a step leaves out is taken from `cluster.defaults`."""

    cpu: Annotated[str, Field(pattern=_CPU)] | None = Field(default=None, description="request")
    cpu_limit: Annotated[str, Field(pattern=_CPU)] | None = None
    memory: Annotated[str, Field(pattern=_BYTES)] | None = Field(
        default=None, description="request and limit alike: memory cannot be given back"
    )
    gpu: AcceleratorConfig | None = None
    scratch: Annotated[str, Field(pattern=_BYTES)] | None = Field(
        default=None, description="most that /tmp, a folder of the node's disk, may hold"
    )
    shared_memory: Annotated[str, Field(pattern=_BYTES)] | None = Field(
        default=None, description="size of /dev/shm, counted as memory; for several GPUs in one pod"
    )
    node_selector: dict[str, str] | None = None
    tolerations: list[TolerationConfig] | None = None
    retries: RetryConfig | None = None
    timeout_s: int | None = Field(default=None, ge=1, description="of one attempt's pod")
    env: dict[str, str] | None = Field(default=None, description="plain values, no secrets")


class NodesConfig(Section):
    """Training on more than one node, by a TrainJob of Kubeflow Trainer.

    Each node gets what `cluster.steps.train` says; the step's own pod only waits for them.
    """

    nodes: int = Field(default=1, ge=1, le=256)
    processes: int | None = Field(
        default=None, ge=1, description="a node's; by default one for each of its GPUs"
    )
    runtime: Name = Field(
        default="torch-distributed", description="ClusterTrainingRuntime of Kubeflow Trainer"
    )
    start_timeout_s: int = Field(
        default=900, ge=1, description="longest until all nodes run: the queue and the image's pull"
    )


class ScheduleConfig(Section):
    """When `kuberec schedule` has the pipeline run again; new data is found by each run itself."""

    cron: str | None = Field(
        default=None,
        description="six fields, seconds first, UTC: '0 0 3 * * *' is each day at three",
    )
    interval_s: int | None = Field(default=None, ge=60)
    enabled: bool = True
    max_concurrency: int = Field(
        default=1, ge=1, le=10, description="runs of this schedule at the same time"
    )
    catchup: bool = Field(default=False, description="make up for runs missed while it was off")

    @model_validator(mode="after")
    def _one_trigger(self) -> Self:
        if (self.cron is None) == (self.interval_s is None):
            raise ValueError("give either cron or interval_s")
        if self.cron is not None and len(self.cron.split()) != 6:
            raise ValueError(
                f"cron '{self.cron}': Kubeflow wants six fields, seconds first, such as "
                "'0 0 3 * * *' for each day at three"
            )
        return self


# What manifests/base makes for the steps that touch the online store and the model store.
_ONLINE = ["materialize", "rollout", "report"]
_FEATURE_STORE = ConfigMapConfig(name="feature-store", path="/etc/kuberec", steps=_ONLINE)
_REDIS = SecretConfig(name="redis", keys={"connection_string": "KUBEREC_REDIS"}, steps=_ONLINE)
_MODEL_STORE = SecretConfig(
    name="model-store",
    keys={key: key for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
    steps=["rollout"],
    optional=True,
)
# Of an MLflow server that asks who writes; ours (manifests/platform) does not.
_MLFLOW = SecretConfig(
    name="mlflow",
    keys={"username": "MLFLOW_TRACKING_USERNAME", "password": "MLFLOW_TRACKING_PASSWORD"},
    steps=["train", "evaluate", "export-version", "rollout"],
    optional=True,
)


class ClusterConfig(Section):
    """A run's place on a cluster; the defaults fit what manifests/base installs."""

    image: str = Field(
        default="kuberec/pipeline:0.1.0",
        pattern=r"^\S+$",
        description="of every step, best by digest: name@sha256:…; it is part of the cache's key",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: list[Name] = Field(default=[])
    service_account: Name = "kuberec-pipeline"
    run_as: int = Field(
        default=1000, ge=1, description="user and group of the steps; owns the workspace"
    )
    namespace: Name | None = Field(
        default=None, description="of runs in multi-user Kubeflow; elsewhere it has only one"
    )
    experiment: str = Field(default="kuberec", min_length=1, description="groups the runs")
    pipeline_root: str | None = Field(
        default=None,
        description="where artifacts go, such as s3://bucket/path; by default Kubeflow's",
    )
    ui: str | None = Field(
        default=None, pattern=r"^https?://", description="Kubeflow's address for a person's browser"
    )
    workspace: VolumeConfig = Field(
        default=VolumeConfig(claim="kuberec-home", path=HOME_PATH),
        description="caches, checkpoints, feature registry; several nodes need ReadWriteMany",
    )
    models: VolumeConfig | None = Field(
        default=VolumeConfig(claim="kuberec-models", path=MODELS_PATH, steps=["rollout"]),
        description="the model store where it is a volume; null where it is S3",
    )
    volumes: list[VolumeConfig] = Field(default=[], description="more of them, such as raw data")
    secrets: list[SecretConfig] = Field(default=[_REDIS, _MODEL_STORE, _MLFLOW])
    config_maps: list[ConfigMapConfig] = Field(default=[_FEATURE_STORE])
    defaults: StepConfig = StepConfig(cpu="500m", memory="2Gi")
    steps: Annotated[dict[str, StepConfig], AfterValidator(_known_steps)] = Field(default={})
    training: NodesConfig = NodesConfig()
    schedule: ScheduleConfig | None = None

    @model_validator(mode="after")
    def _steps_and_mounts_fit(self) -> Self:
        if set(self.workspace.steps) != set(STEPS):
            raise ValueError("workspace: every step needs it; leave its steps out")
        for step in STEPS:
            mounts = [mount.path for mount in self.mounts(step)]
            mounts += [each.path for each in self.config_maps if each.path and step in each.steps]
            if twice := sorted({path for path in mounts if mounts.count(path) > 1}):
                raise ValueError(f"step '{step}': two volumes are mounted at '{twice[0]}'")
        return self

    def mounts(self, step: str) -> list[VolumeConfig]:
        """The claims that a step mounts."""
        every = [self.workspace, *([self.models] if self.models else []), *self.volumes]
        return [volume for volume in every if step in volume.steps]

    def step(self, name: str) -> StepConfig:
        """What `name` gets: its own fields over the defaults."""
        own = self.steps.get(name, StepConfig())
        said = {key: getattr(own, key) for key in own.model_fields_set}
        return self.defaults.model_copy(update=said)

    @property
    def pinned(self) -> bool:
        """Whether the image is named by its content."""
        return re.search(r"@sha256:[0-9a-f]{64}$", self.image) is not None
