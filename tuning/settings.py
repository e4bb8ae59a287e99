"""A search space's YAML: which keys of a run vary, within what, and how long the search goes on.

A file of its own and no section of a run's YAML: a space serves many runs, and no step of the
pipeline reads it.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from recommender.config import Section
from recommender.errors import KuberecError

Scalar = bool | int | float | str | None


class Range(Section):
    """Numbers between two ends, both included; whole ones where the key's are."""

    low: int | float
    high: int | float
    log: bool = Field(default=False, description="even in the logarithm: for rates and widths")
    step: int | float | None = Field(
        default=None, gt=0, description="between neighbours; nothing: any number (whole: 1)"
    )

    @model_validator(mode="after")
    def _ends_and_steps_fit(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs low above 0, not {self.low}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other: give one of them")
        if self.step is not None:
            steps = (self.high - self.low) / self.step
            if not math.isclose(steps, round(steps), abs_tol=1e-9):
                raise ValueError(f"high ({self.high}) is no whole number of steps ({self.step})")
        return self


class Choices(Section):
    """One of these values; their order means nothing to the search."""

    choices: list[Scalar] = Field(min_length=2)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        told = [(type(value).__name__, value) for value in self.choices]
        if twice := sorted({str(value) for kind, value in told if told.count((kind, value)) > 1}):
            raise ValueError(f"choices name {', '.join(twice)} twice")
        return self


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "choices" if "choices" in value else "range"
    return "choices" if isinstance(value, Choices) else "range"


Dimension = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind)
]


class PrunerConfig(Section):
    """Which trials end early, judged by their validation NDCG@10 after each epoch."""

    kind: Literal["median", "asha", "none"] = Field(
        default="median",
        description="median: worse than the median of those before at the same epoch; asha: not "
        "in the best third at epochs that grow threefold (Li et al. 2020, arXiv:1810.05934)",
    )
    startup_trials: int = Field(
        default=5, ge=0, description="of median: whole trainings before any is ended"
    )
    warmup_epochs: int = Field(
        default=4, ge=1, description="that each trial gets; give more than training.warmup_epochs"
    )


class TuningConfig(Section):
    """A space and how it is searched; the objective is the best epoch's validation NDCG@10."""

    space: dict[str, Dimension] = Field(
        min_length=1, description="by dotted key of a run's YAML, model.… or training.…"
    )
    trials: int = Field(default=40, gt=0, description="trainings, ended early ones included")
    timeout_s: float | None = Field(default=None, gt=0, description="of one search; nothing: none")
    seed: int = Field(default=42, ge=0, le=2**31, description="of the sampler")
    startup_trials: int = Field(
        default=10, ge=0, description="drawn at random before TPE models what they showed"
    )
    retries: int = Field(default=1, ge=0, description="of a trial whose process was killed")
    pruner: PrunerConfig = PrunerConfig()


def parse_tuning(content: Any, place: str) -> TuningConfig:
    """Check what a space's YAML holds.

    Raises:
        KuberecError: naming `place`, each offending key with its value, and what is allowed.
    """
    if not isinstance(content, Mapping):
        raise KuberecError(f"{place}: expected keys such as 'space:' and 'trials:' at the top")
    try:
        return TuningConfig.model_validate(content)
    except ValidationError as error:
        lines = [explain(problem) for problem in error.errors()]
        raise KuberecError("\n  ".join([f"{place}: a space that cannot be used", *lines])) from None


def explain(problem: Any) -> str:
    """One of pydantic's problems as key, value and what is allowed."""
    key = ".".join(str(part) for part in problem["loc"] if part not in ("range", "choices"))
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'"
    if problem["type"] == "missing":
        return f"key '{key}' is required"
    shown = "" if isinstance(problem["input"], Mapping) else f" = {problem['input']!r}"
    return f"{key}{shown}: {message}" if key else message
