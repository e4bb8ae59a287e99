"""How soon the judge finds what is wrong with a canary: `python -m benchmarks.rollout_power`.

Simulated traffic and answers, judged once at the level of one of the looks of the default
configuration: chance of a rollback, by the canary's share and the requests of both. An open verdict
is not a promotion; the next look has more requests.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from serving.rollout.evidence import Histogram, Pair, Ranked, Window
from serving.rollout.judging.judge import Round, judge
from serving.rollout.judging.spending import spending
from serving.rollout.record import Rollout, StepRecord
from serving.rollout.settings import RolloutConfig

REQUESTS = (500, 2_000, 8_000)
PAIRS = (20, 50, 100)
TRIALS = 200
SEED = 6
ITEMS = 1349
# Of the transformer's kuberec_request_seconds, in milliseconds.
BOUNDS_MS = (
    *(0.5, 1, 2, 3, 5, 7.5, 10, 12.5, 15, 17.5, 20, 25, 30, 35, 40, 50, 60, 70, 85, 100, 120, 150),
    *(200, 250, 300, 350, 400, 500, 700, 1000, 2000, 5000, 10_000),
)
BOUNDS = (*(ms / 1000 for ms in BOUNDS_MS), float("inf"))

IN_COMMON = (0.01, 0.05, 0.1, 0.2, 0.5)

# Share of the requests that fail, milliseconds added, share of the requests that get these.
Fault = tuple[float, float, float]
HEALTHY: Fault = (0.001, 0.0, 1.0)
FAULTS: dict[str, Fault] = {
    "like stable": HEALTHY,
    "fails 1 % of requests": (0.01, 0.0, 1.0),
    "fails 3 % of requests": (0.03, 0.0, 1.0),
    "slower by 15 ms": (0.001, 15.0, 1.0),
    "slower by 50 ms": (0.001, 50.0, 1.0),
    "5 % slower by 200 ms": (0.001, 200.0, 0.05),
}


def traffic(
    random: np.random.Generator, requests: int, failing: float, slower_ms: float, slow: float
) -> Window:
    """Requests of one row: 4 ms in the median, 20 ms in the 99th percentile."""
    seconds = 0.004 * random.lognormal(0, 0.7, requests)
    seconds += slower_ms / 1000 * (random.random(requests) < slow)
    counts = np.histogram(seconds, (0.0, *BOUNDS))[0]
    errors = random.binomial(requests, failing)
    return Window(
        requests, errors, Histogram(BOUNDS, tuple(counts.tolist())), 0.0005, requests, 0, 0
    )


def answers(random: np.random.Generator, count: int, in_common: float) -> list[Pair]:
    """Lists of ten, with that share of items in common on average."""
    pairs = []
    for _ in range(count):
        stable, others = random.permutation(ITEMS)[:20].reshape(2, 10)
        canary = np.where(random.random(10) < in_common, stable, others)
        first, second = (
            Ranked(tuple(map(str, items)), tuple(range(10, 0, -1))) for items in (stable, canary)
        )
        pairs.append(Pair("live", 10, first, second))
    return pairs


def found(draw: Callable[[np.random.Generator], Round], config: RolloutConfig) -> float:
    """Share of the trials that end in a rollback."""
    random = np.random.default_rng(SEED)
    first = StepRecord(percent=config.steps[0].percent, began="")
    rollout = Rollout(
        id="", target="embedded", stable="", canary="", began="", config={}, steps=[first]
    )
    looks = spending(rollout, config)
    outcomes = [judge(draw(random), config, looks).outcome for _ in range(TRIALS)]
    return outcomes.count("roll_back") / TRIALS


def by_traffic(config: RolloutConfig) -> Table:
    """By fault, the canary's share, and the requests of both versions together."""
    table = Table(title="chance of a rollback in one look, by live requests of both versions")
    for heading in ("canary", "share", *(f"{requests:,} requests" for requests in REQUESTS)):
        table.add_column(heading, justify="left" if heading == "canary" else "right")
    for name, fault in FAULTS.items():
        for percent in (step.percent for step in config.steps if step.percent < 100):
            row = []
            for requests in REQUESTS:
                ours = requests * percent // 100
                draw = partial(_with_traffic, requests - ours, ours, fault)
                few = ours < config.min_requests
                row.append("too few" if few else f"{found(draw, config):.0%}")
            table.add_row(name, f"{percent} %", *row)
    return table


def by_pairs(config: RolloutConfig) -> Table:
    """By what the lists have in common, and the number of pairs."""
    table = Table(title="chance of a rollback in one look, by requests that both were asked")
    for heading in ("items in common", *(f"{count} pairs" for count in PAIRS)):
        table.add_column(heading, justify="right")
    for share in IN_COMMON:
        row = [f"{found(partial(_with_pairs, count, share), config):.0%}" for count in PAIRS]
        table.add_row(f"{share:.0%}", *row)
    return table


def _with_traffic(stable: int, canary: int, fault: Fault, random: np.random.Generator) -> Round:
    sides = traffic(random, stable, *HEALTHY), traffic(random, canary, *fault)
    return Round(25, *sides, "", [])


def _with_pairs(count: int, in_common: float, random: np.random.Generator) -> Round:
    return Round(25, None, None, "", answers(random, count, in_common))


def main() -> None:
    config = RolloutConfig()
    console = Console()
    console.print(by_traffic(config))
    console.print(by_pairs(config))


if __name__ == "__main__":
    main()
