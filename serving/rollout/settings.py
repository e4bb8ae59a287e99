"""The section `serving.rollout` of a run's YAML: steps of a canary, and what it is held to."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from recommender.config import Section


class RolloutStep(Section):
    """A share of the requests, and how long the canary is watched with it."""

    percent: int = Field(ge=1, le=100, description="share of the requests that the canary gets")
    bake_s: float = Field(
        default=60.0, gt=0, description="seconds that it is watched before the next step"
    )


class RankingLimits(Section):
    """Guardrails on what is recommended: the same requests, answered by both versions.

    A model that was trained anew gives other lists, and may; one whose weights are broken gives
    lists that have nothing to do with the ones before. docs/RESULTS.md has what both look like.
    """

    min_overlap: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="least share of top-K items in common with stable: of the mean, of most lists",
    )
    min_rbo: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="the same of rank-biased overlap with stable (persistence 0.9)",
    )
    min_coverage_ratio: float = Field(
        default=0.5, ge=0, description="least distinct items recommended, by those of stable"
    )
    max_popular_increase: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="most that the share of popular items among those recommended may grow",
    )
    max_score_drift: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="largest Kolmogorov-Smirnov distance between both versions' scores",
    )
    top_k: int = Field(default=10, ge=1, description="places of a list that are compared")
    min_pairs: int = Field(
        default=20, ge=1, description="requests that both must have answered before this is judged"
    )
    pairs_per_step: int = Field(
        default=100, ge=1, description="most requests that are sent to both versions in one step"
    )

    @model_validator(mode="after")
    def _enough_pairs(self) -> Self:
        if self.min_pairs > self.pairs_per_step:
            raise ValueError(
                f"min_pairs: {self.min_pairs} is more than pairs_per_step ({self.pairs_per_step})"
            )
        return self


class RolloutConfig(Section):
    """How a new version takes over from the one that serves: by steps, each judged.

    Every limit is on the canary beside stable, at the same time. What is a difference by chance is
    told from a real one by a one-sided test; `alpha` is the chance, over a whole rollout, that a
    canary which is no worse is rolled back for one of its limits.
    """

    steps: list[RolloutStep] = Field(
        default=[RolloutStep(percent=percent) for percent in (5, 25, 50, 100)],
        min_length=1,
        description="shares in ascending order, the last one 100; a number alone is a share",
    )
    look_every_s: float = Field(
        default=5.0, gt=0, description="seconds between two judgements within a step"
    )
    max_wait_s: float = Field(
        default=600.0,
        ge=0,
        description="longest that a step may go on beyond its bake_s while its verdict is open; "
        "then the rollout is held",
    )
    after_hold: Literal["keep", "roll_back"] = Field(
        default="keep",
        description="what a held rollout does: keep = leave the shares and wait for an operator "
        "(kuberec rollout promote | abort), roll_back = give the canary up",
    )
    alpha: float = Field(default=0.01, gt=0, lt=0.5)
    min_requests: int = Field(
        default=100,
        ge=1,
        description="live requests that each version must have answered in a step",
    )
    own_requests: int = Field(
        default=10_000,
        ge=0,
        description="most golden requests that the rollout itself sends in a step where clients "
        "send too few; 0 = none",
    )
    own_requests_per_s: float = Field(default=50.0, gt=0, description="pace of these")
    max_error_increase: float = Field(
        default=0.005,
        ge=0,
        le=1,
        description="most that the share of failed requests may be above stable's",
    )
    max_error_rate: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="share of failed requests from which a version counts as ill by itself: where "
        "stable is ill too, the rollout is held",
    )
    max_degraded_rate: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="the same of rows answered without their features, and of short answers",
    )
    max_p99_ms: float | None = Field(
        default=None, gt=0, description="the same of p99; by default no time is too long by itself"
    )
    max_latency_ratio: float = Field(
        default=1.25, ge=1, description="most that p50 and p99 may be, by those of stable, …"
    )
    latency_slack_ms: float = Field(
        default=10.0, ge=0, description="… and this much more in milliseconds"
    )
    max_queue_increase_ms: float = Field(
        default=50.0, ge=0, description="most that the mean wait for Triton may be above stable's"
    )
    max_fallback_increase: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="most that the share of rows answered without their features may be above "
        "stable's",
    )
    max_short_increase: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="most that the share of empty or short answers may be above stable's",
    )
    ranking: RankingLimits = RankingLimits()
    settle_s: float = Field(
        default=5.0,
        ge=0,
        description="seconds that the gateway gets, with all requests on one side, before the "
        "other side is taken away (KServe takes pods away before it changes the route)",
    )
    max_unready_s: float = Field(
        default=5.0, ge=0, description="longest that a canary with a share may be not ready"
    )
    stable_timeout_s: float = Field(
        default=600.0,
        gt=0,
        description="longest wait for a stable version that is not ready, before giving up",
    )

    @field_validator("steps", mode="before")
    @classmethod
    def _shares_alone(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        # Kubeflow hands whole numbers on as floats.
        return [
            {"percent": each}
            if isinstance(each, int | float) and not isinstance(each, bool)
            else each
            for each in value
        ]

    @model_validator(mode="after")
    def _steps_ascend(self) -> Self:
        shares = [step.percent for step in self.steps]
        if shares != sorted(set(shares)) or shares[-1] != 100:
            raise ValueError(f"steps: {shares} must ascend, and end with 100")
        return self
