"""A snapshot's profile against that of the last one that was accepted: measures with limits."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ingestion.validation.days import SMALL_DAY
from ingestion.validation.settings import DriftConfig, Severity

_SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class Measure:
    """A number that a snapshot has to keep between two limits.

    Attributes:
        name: of the check.
        value: None where there is nothing to measure, which is no failure.
        said: what was found, in words.
        hint: what it may mean, said only of a number that is out of its limits.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    said: str = ""
    severity: Severity = "critical"
    hint: str = ""

    @property
    def met(self) -> bool:
        return self.value is None or (
            (self.low is None or self.value >= self.low)
            and (self.high is None or self.value <= self.high)
        )

    @property
    def words(self) -> str:
        return self.said if self.met or not self.hint else f"{self.said}; {self.hint}"


def measures(
    now: Mapping[str, Any],
    accepted: Mapping[str, Any],
    config: DriftConfig,
    left_out: Collection[str] = (),
) -> list[Measure]:
    """Every difference between two profiles that has a limit.

    Args:
        left_out: days in quarantine, which are not missed.
    """
    return [
        *_volume(now, accepted, config),
        *_times(now, accepted, config, left_out),
        *_distances(now, accepted, config),
        *_columns(now, accepted, config),
        *_ids(now, accepted, config),
    ]


def distance(left: Mapping[str, int], right: Mapping[str, int]) -> float:
    """Jensen-Shannon distance (base 2, 0 to 1) of two histograms, less what chance explains.

    Two samples of one distribution over k bins are expected to diverge by
    (k - 1) (1 / n₁ + 1 / n₂) / 8 nats, the second-order term of the divergence; that is subtracted.
    Lin 1991, "Divergence measures based on the Shannon entropy".
    """
    n, m = sum(left.values()), sum(right.values())
    if not n or not m:
        return 0.0 if n == m else 1.0
    bins = sorted(set(left) | set(right))
    divergence = 0.0
    for name in bins:
        p, q = left.get(name, 0) / n, right.get(name, 0) / m
        middle = (p + q) / 2
        divergence += sum(part * math.log2(part / middle) / 2 for part in (p, q) if part)
    chance = (len(bins) - 1) * (1 / n + 1 / m) / (8 * math.log(2))
    return math.sqrt(max(0.0, divergence - chance))


def _volume(
    now: Mapping[str, Any], accepted: Mapping[str, Any], config: DriftConfig
) -> Iterable[Measure]:
    for table, rows in now["rows"].items():
        before = accepted["rows"].get(table)
        yield Measure(
            f"drift.{table}.volume",
            rows / before if before else None,
            config.min_volume_ratio,
            config.max_volume_ratio,
            f"{rows:,} rows, {before or 0:,} accepted",
        )


def _times(
    now: Mapping[str, Any],
    accepted: Mapping[str, Any],
    config: DriftConfig,
    left_out: Collection[str],
) -> Iterable[Measure]:
    if not now.get("newest") or not accepted.get("newest"):
        return
    newest, before = _moment(now["newest"]), _moment(accepted["newest"])
    yield Measure(
        "drift.events.freshness",
        (before - newest).total_seconds() / _SECONDS_A_DAY,
        None,
        config.max_days_back,
        f"days that the newest event is older than accepted: now {newest:%Y-%m-%d %H:%M:%S}, "
        f"accepted {before:%Y-%m-%d %H:%M:%S}",
        hint="is a file cut or missing?",
    )
    days, known = now["days"], accepted["days"]
    shared = [day for day in days if day in known and known[day][0] >= SMALL_DAY]
    edges = {min(days), max(days), min(known), max(known), *left_out}
    gone = [day for day in known if day not in days and min(days) < day < max(days)]
    changes = {day: days[day][0] / known[day][0] - 1 for day in shared if day not in edges}
    changes |= {day: -1.0 for day in gone if day not in edges and known[day][0] >= SMALL_DAY}
    worst = max(changes, key=lambda day: (abs(changes[day]), day), default=None)
    yield Measure(
        "drift.events.days",
        abs(changes[worst]) if worst else None,
        None,
        config.max_day_change,
        f"{worst}: {days.get(worst, [0])[0]:,} events, {known[worst][0]:,} accepted"
        if worst
        else "no whole day is in both",
        hint="is the day there twice, or cut?",
    )


def _moment(text: str) -> datetime:
    """A profile's time: engines name UTC, or leave the zone out."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _distances(
    now: Mapping[str, Any], accepted: Mapping[str, Any], config: DriftConfig
) -> Iterable[Measure]:
    def compared(key: str) -> tuple[dict[str, int], dict[str, int]] | None:
        left, right = now.get(key), accepted.get(key)
        if not left or not right or min(sum(left.values()), sum(right.values())) < config.min_rows:
            return None
        return left, right

    plans: tuple[tuple[str, str, float, Severity], ...] = (
        ("hours", "drift.events.hours", config.max_distance, "critical"),
        ("values", "drift.events.values", config.max_distance, "critical"),
        ("types", "drift.events.types", config.max_distance, "warning"),
        ("popularity", "drift.events.popularity", config.max_category_distance, "warning"),
        ("categories", "drift.items.categories", config.max_category_distance, "warning"),
    )
    for key, name, limit, severity in plans:
        if (pair := compared(key)) is None:
            continue
        said = _shift(*pair) if key == "hours" else "Jensen-Shannon distance to those accepted"
        yield Measure(name, distance(*pair), None, limit, said, severity)
    for key, name in (("types", "drift.events.new_types"), ("categories", "drift.items.new")):
        left, right = now.get(key), accepted.get(key)
        if left and right:
            new = {part: rows for part, rows in left.items() if part not in right}
            shown = ", ".join(repr(part) for part in list(new)[:5]) or "none"
            share = sum(new.values()) / sum(left.values())
            yield Measure(name, share, None, config.max_new_share, f"new: {shown}", "warning")


def _shift(now: Mapping[str, int], accepted: Mapping[str, int]) -> str:
    """By how many hours the clock would have to be turned for the days to look alike."""

    def turned(hours: int) -> dict[str, int]:
        return {str((int(hour) + hours) % 24): rows for hour, rows in accepted.items()}

    best = min(range(-11, 13), key=lambda hours: (distance(now, turned(hours)), abs(hours)))
    fits = f"they fit if the clock is {best:+d} h; a wrong time zone?" if best else "same time zone"
    return f"Jensen-Shannon distance of hours of the day; {fits}"


def _columns(
    now: Mapping[str, Any], accepted: Mapping[str, Any], config: DriftConfig
) -> Iterable[Measure]:
    for table, nulls in now["nulls"].items():
        before = accepted["nulls"].get(table, {})
        missing = [name for name in before if name not in nulls]
        shown = ", ".join(missing) or "none"
        yield Measure(
            f"drift.{table}.columns", len(missing), None, 0, f"columns that are gone: {shown}"
        )
        risen = {name: nulls[name] - before[name] for name in nulls if name in before}
        worst = max(risen, key=lambda name: (risen[name], name), default=None)
        said = "no column in both"
        if worst is not None:
            said = f"column '{worst}': {nulls[worst]:.1%} empty, {before[worst]:.1%} accepted"
        yield Measure(
            f"drift.{table}.nulls",
            risen[worst] if worst is not None else None,
            None,
            config.max_null_rate_change,
            said,
        )


def _ids(
    now: Mapping[str, Any], accepted: Mapping[str, Any], config: DriftConfig
) -> Iterable[Measure]:
    # Under another key of pseudonyms everybody is somebody else.
    rekeyed = {"users"} if now.get("user_key") != accepted.get("user_key") else set()
    for name, forms in now["forms"].items():
        before = accepted["forms"].get(name)
        if forms and before and name.partition(".")[0] not in rekeyed:
            found = f"now {_main(forms)}, accepted {_main(before)}"
            far = distance(forms, before)
            yield Measure(f"drift.{name}.form", far, None, config.max_distance, found)
    if now["engine"] != accepted["engine"]:
        return
    for table, hashes in now["ids"].items():
        if table in rekeyed:
            continue
        kept = kept_share(hashes, accepted["ids"].get(table, []))
        said = f"of the accepted ids of {table} are still there, about"
        yield Measure(f"drift.{table}.known_ids", kept, config.min_kept_ids, None, said)


def kept_share(now: list[int], accepted: list[int]) -> float | None:
    """About what share of the accepted ids is still there, of the smallest hashes of both.

    Below the smaller of the two largest hashes each sketch has all of its ids: a sample of both
    that is the same. Beyer et al. 2007, "On synopses for distinct-value estimation".
    """
    if not accepted:
        return None
    if not now:
        return 0.0
    # A sketch that is not full has all ids.
    top = min((max(each) for each in (now, accepted) if len(each) >= 256), default=None)
    sample = [each for each in accepted if top is None or each <= top]
    return len(set(sample) & set(now)) / len(sample) if sample else None


def _main(forms: Mapping[str, int]) -> str:
    name = max(forms, key=lambda each: (forms[each], each))
    return f"{forms[name] / sum(forms.values()):.0%} {name}"
