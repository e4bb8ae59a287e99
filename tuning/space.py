"""The search space, checked against the sections of a run before any trial starts."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from recommender.errors import KuberecError
from tuning.base import Base, Refused, field_type
from tuning.settings import Range, TuningConfig

_DRAWS = 200  # of the other keys, before a value is said to fit none of them


@dataclass(frozen=True)
class Parameter:
    """One key and what it may be; numbers have ends, whatever else has choices."""

    key: str
    kind: Literal["int", "float", "choice"]
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    def ends(self) -> tuple[Any, ...]:
        """The values that a config is asked about: both ends of a range, every choice."""
        return self.choices if self.kind == "choice" else (self.low, self.high)

    def draw(self, rng: random.Random) -> Any:
        """Any of its values, for checks alone: the search has samplers of its own."""
        if self.kind == "choice":
            return rng.choice(self.choices)
        if self.kind == "int":
            return rng.randrange(int(self.low), int(self.high) + 1, int(self.step or 1))
        return rng.uniform(self.low, self.high)

    def distribution(self) -> Any:
        """Optuna's."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.choices)
        if self.kind == "int":
            return distributions.IntDistribution(
                int(self.low), int(self.high), log=self.log, step=int(self.step or 1)
            )
        return distributions.FloatDistribution(self.low, self.high, log=self.log, step=self.step)


def check_space(config: TuningConfig, base: Base) -> list[Parameter]:
    """The space's parameters, in its order.

    Raises:
        KuberecError: an unknown key, a range of what is no number, or a value that the config
            refuses whatever the other keys are.
    """
    parameters = list(_parameters(config))
    rng = random.Random(0)
    for parameter in parameters:
        for value in parameter.ends():
            _check_value(parameter, value, parameters, base, rng)
    return parameters


def _parameters(config: TuningConfig) -> Iterator[Parameter]:
    for key, dimension in config.space.items():
        annotation = field_type(key)
        if not isinstance(dimension, Range):
            yield Parameter(key, "choice", choices=tuple(dimension.choices))
            continue
        if annotation not in (int, float):
            raise KuberecError(f"space: '{key}' is no number and has no range: give its choices")
        numbers = (dimension.low, dimension.high, dimension.step or 1)
        if annotation is int and any(number != int(number) for number in numbers):
            raise KuberecError(f"space: '{key}' is a whole number; so are low, high and step")
        yield Parameter(
            key,
            kind="int" if annotation is int else "float",
            low=annotation(dimension.low),
            high=annotation(dimension.high),
            log=dimension.log,
            step=dimension.step,
        )


def _check_value(
    parameter: Parameter,
    value: Any,
    parameters: Sequence[Parameter],
    base: Base,
    rng: random.Random,
) -> None:
    """KuberecError where no combination with `value` is accepted."""
    reason = ""
    for _ in range(_DRAWS):
        values = {each.key: each.draw(rng) for each in parameters} | {parameter.key: value}
        try:
            base.with_values(values)
        except Refused as refusal:
            # Of several reasons, what the value itself breaks says more than what it breaks with
            # others.
            own = [part for part in str(refusal).split("; ") if part.startswith(parameter.key)]
            reason = own[0] if own else str(refusal)
            if own:
                break
        else:
            return
    raise KuberecError(f"space: {parameter.key} cannot be {value!r}: {reason}")


def snippet(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"model.dim": 128}` as the nested sections of a run's YAML."""
    sections: dict[str, Any] = {}
    for key, value in values.items():
        *parents, last = key.split(".")
        node = sections
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return sections
