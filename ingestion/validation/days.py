"""Days of a profile by themselves: copies of each other, and a thin last one."""

from collections.abc import Mapping
from statistics import median

SMALL_DAY = 50  # events of a day, below which its change is chance


def repeated_days(days: Mapping[str, list[int]]) -> list[tuple[str, str]]:
    """Pairs of days with the same events of the same users and items."""
    seen: dict[tuple[int, ...], str] = {}
    pairs = []
    for day, content in sorted(days.items()):
        if content[0] < SMALL_DAY:
            continue
        first = seen.setdefault(tuple(content), day)
        if first != day:
            pairs.append((first, day))
    return pairs


def last_day_share(days: Mapping[str, list[int]]) -> tuple[float | None, str]:
    """Events of the last whole day by the median of up to 14 days before it, and in words."""
    whole = sorted(days)[1:-1]
    before = [days[day][0] for day in whole[-15:-1]]
    if len(before) < 7 or median(before) < SMALL_DAY:
        return None, "too few days to compare"
    events, usual = days[whole[-1]][0], median(before)
    return events / usual, f"{whole[-1]}: {events:,} events, {usual:,.0f} on the median day before"
