"""The `serving` section of a run's YAML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from recommender.config import Section
from recommender.errors import KuberecError
from recommender.files import read_json, write_json
from serving.rollout.settings import RolloutConfig
from serving.transformer.request_log.settings import RequestLogConfig

SETTINGS_FILE = "settings.json"
# Keys that are gone, with what they were by default.
_GONE = {"min_overlap": 1.0, "min_gateway_overlap": 0.99, "max_score_difference": 1e-3}


class GpuConfig(Section):
    """The ranker on a GPU, by TensorRT: a model version carries this beside what a CPU needs."""

    precision: Literal["fp32", "fp16", "bf16"] = Field(
        default="fp32",
        description="fp16 is for rankers whose masks fit into it: MASKED_SCORE (-1e9) does not. A "
        "version that the step quantise made float16 has its types in the graph: leave fp32",
    )
    instances: int = Field(default=1, ge=1, description="ranker instances for each GPU")
    workspace_mib: int = Field(
        default=1024, ge=1, description="memory that TensorRT may use while it builds and runs"
    )
    engine_cache: str = Field(
        default="/tmp/kuberec-tensorrt",
        pattern=r"^/[^:,\s]+$",
        description="folder for built engines in the server's container; mount a volume there",
    )


class TritonConfig(Section):
    """What goes into a model version's config.pbtxt files.

    Batching and instances are the plainest that benchmarks/results/batching.json gives no reason to
    leave. What it shows beyond its noise: a second instance takes a lone request from 1.18 to
    1.63 ms at p50 (two cores), and 1000 µs of waiting cost it a millisecond. The preferred size
    that the file names best (16) was no better in six more rounds on a quiet machine: not taken.
    """

    max_batch_size: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="most rows that one request, or one merged batch, may have",
    )
    preferred_batch_sizes: list[int] = Field(
        default=[], description="merged sizes that the ranker runs at once, without more waiting"
    )
    max_queue_delay_us: int = Field(
        default=0,
        ge=0,
        description="how long the ranker waits for a fuller batch; 0 = only while it is busy",
    )
    ranker_instances: int = Field(
        default=1,
        ge=1,
        description="ranker instances; embedded, processes that run all three graphs",
    )
    lookup_instances: int = Field(
        default=1,
        ge=1,
        description="lookup instances of the full image, where its requests are never merged",
    )
    intra_threads: int = Field(default=1, ge=1, description="threads within one run of a graph")
    response_cache: bool = Field(
        default=False,
        description="remember answers to identical requests; needs a server with --cache-config",
    )
    gpu: GpuConfig = GpuConfig()

    @model_validator(mode="after")
    def _preferred_sizes_fit(self) -> Self:
        for size in self.preferred_batch_sizes:
            if not 1 <= size <= self.max_batch_size:
                raise ValueError(
                    f"preferred_batch_sizes: {size} is not within 1 and max_batch_size "
                    f"({self.max_batch_size})"
                )
        return self


class ViewFreshness(Section):
    """How old one feature view's row may be when it is used. Feast's ttl does not apply online."""

    max_age_s: float | None = Field(
        default=None, gt=0, description="oldest row, by its event time; no limit by default"
    )
    policy: Literal["serve", "flag", "fallback", "reject"] = Field(
        default="flag",
        description="beyond it: serve = use it and only count; flag = use it and say so; "
        "fallback = answer as for an empty history; reject = an error",
    )


class TransformerConfig(Section):
    """Feature lookup and the way to Triton, within one pod."""

    freshness: dict[str, ViewFreshness] = Field(
        default={"user_history": ViewFreshness()}, description="limits by feature view"
    )
    lookup_timeout_s: float = Field(
        default=0.1, gt=0, le=10, description="longest that one feature lookup may take"
    )
    store_failure: Literal["fallback", "reject"] = Field(
        default="fallback",
        description="a slow or missing store: fallback = popular items, reject = an error",
    )
    predictor_timeout_s: float = Field(
        default=5.0, gt=0, description="longest wait for Triton, a restart of it included"
    )
    # Measured with one ranker instance on two cores: 1 gives 6 to 14 % more answers/s than 2 with
    # 16 and 64 requests in flight, and 4 fewer still. Several instances, or a GPU, want more.
    predictor_concurrency: int = Field(
        default=1,
        ge=1,
        description="requests to Triton under way at once; what comes meanwhile shares the next",
    )
    max_rows_in_flight: int = Field(
        default=512,
        ge=1,
        description="rows of requests that one replica takes on at once; more are refused at once",
    )
    max_ids: int = Field(
        default=10_000, ge=1, description="most ids that one row of history or exclude may have"
    )
    # They hold user ids: transformer/sample.py says where they are, and where they are not.
    sampled_requests: int = Field(
        default=200,
        ge=0,
        le=1000,
        description="clients' requests that a replica remembers, in memory, for a rollout to ask "
        "both versions; 0 = none",
    )
    sampled_for_s: float = Field(
        default=600.0, gt=0, description="seconds after which these are forgotten"
    )
    request_log: RequestLogConfig = RequestLogConfig()


class KubernetesConfig(Section):
    """An endpoint on a cluster: which InferenceService a rollout changes, and where versions lie.

    Credentials are no part of it: those of the model store come from the environment, an API key
    or token for the gateway from KUBEREC_API_KEY or KUBEREC_TOKEN, one for Prometheus from
    KUBEREC_PROMETHEUS_TOKEN.
    """

    namespace: str = Field(
        default="kuberec",
        pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
        description="namespace of the InferenceService",
    )
    inference_service: str = Field(
        default="recommend",
        pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$",
        description="its name; Deployments are <name>-blue-predictor and <name>-green-predictor",
    )
    model_store: str = Field(
        default="pvc://kuberec-models/versions",
        pattern=r"^(pvc|s3|gs|abfs|hdfs)://[^/\s]+(/\S*)?$",
        description="where versions are published, each in a folder of its own: "
        "pvc://CLAIM/PATH or s3://BUCKET/PATH; gs, abfs and hdfs with a package more",
    )
    model_store_mount: str = Field(
        default="/kuberec/models",
        pattern=r"^/\S*$",
        description="where the claim of a pvc:// store is mounted while a rollout runs",
    )
    gateway: str | None = Field(
        default=None,
        pattern=r"^(https?://)?[^/\s]+$",
        description="[https://]HOST[:PORT] that leads to the endpoint's gateway from where a "
        "rollout runs; by default the address that the Gateway's status tells",
    )
    prometheus: str = Field(
        default="http://prometheus-operated.monitoring.svc:9090",
        pattern=r"^https?://[^/\s@]+(/\S*)?$",
        description="the Prometheus that scrapes the endpoint's pods, as a rollout reaches it; a "
        "token for it comes from KUBEREC_PROMETHEUS_TOKEN",
    )
    ready_timeout_s: float = Field(
        default=900.0, gt=0, description="longest that a new version's pods may take to be ready"
    )
    answer_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="longest that the gateway may take to share requests as it was told, or, of a "
        "first version, to answer by it alone",
    )


class ServingConfig(Section):
    """The embedded endpoint: one Envoy as its door, a transformer and a Triton a version behind.

    What follows from `triton` on holds on a cluster too.
    """

    host: str = Field(
        default="127.0.0.1", min_length=1, description="address that the endpoint listens on"
    )
    port: int = Field(
        default=8000, ge=1, le=65535, description="REST and gRPC, both on this one port"
    )
    admin_port: int = Field(
        default=9901, ge=1, le=65535, description="Envoy's admin page, this machine only"
    )
    request_timeout_s: float = Field(
        default=15.0, gt=0, description="longest that one request may take"
    )
    start_timeout_s: float = Field(
        default=90.0, gt=0, description="longest that a new Triton may load"
    )
    lock_timeout_s: float = Field(
        default=120.0,
        ge=0,
        description="how long to wait for another command that changes what serves",
    )
    keep_versions: int = Field(
        default=3, ge=2, description="installed versions kept, current included"
    )
    triton: TritonConfig = TritonConfig()
    transformer: TransformerConfig = TransformerConfig()
    kubernetes: KubernetesConfig = KubernetesConfig()
    rollout: RolloutConfig = RolloutConfig()

    @model_validator(mode="before")
    @classmethod
    def _without_keys_that_are_gone(cls, content: Any) -> Any:
        """Homes, records and versions of earlier releases hold every key, defaults included."""
        if not isinstance(content, Mapping):
            return content
        for key, default in _GONE.items():
            if content.get(key, default) != default:
                raise ValueError(
                    f"{key} is no key any more: golden requests are held to the limits that a "
                    "version was exported with; set export.parity.triton (for servers on CPUs) or "
                    "export.parity.tensorrt (on GPUs)"
                )
        return {key: value for key, value in content.items() if key not in _GONE}


def save_settings(home: Path, config: ServingConfig) -> None:
    """Remember the settings of a rollout for the commands that come after it."""
    write_json(home / "serving" / SETTINGS_FILE, config.model_dump(mode="json"))


def load_settings(home: Path, **changes: Any) -> ServingConfig:
    """The settings of the latest rollout in a state home, or the defaults; `changes` win.

    Raises:
        KuberecError: they were saved by another version of kuberec, with other keys.
    """
    path = home / "serving" / SETTINGS_FILE
    try:
        saved = read_json(path) if path.is_file() else {}
        return ServingConfig.model_validate(saved | changes)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
        raise KuberecError(
            f"the settings of the latest rollout do not fit this version of kuberec ({problems}): "
            f"delete '{path}' and run the pipeline again"
        ) from error
    except ValueError as error:
        raise KuberecError(
            f"'{path}' is not readable ({error}): delete it and run the pipeline again"
        ) from error
