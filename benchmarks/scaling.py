"""How a benchmark's time grows with its rows, in words."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any


def growth(
    figures: Sequence[Mapping[str, Any]], seconds: Callable[[Mapping[str, Any]], float]
) -> list[str]:
    """A line for each figure and the next larger one; each has `events`."""
    lines = []
    for small, large in pairwise(figures):
        times = seconds(large) / seconds(small)
        lines.append(
            f"from {small['events']:,} to {large['events']:,} events: {times:.1f} times the time "
            f"for {large['events'] / small['events']:.0f} times the rows"
        )
    return lines
