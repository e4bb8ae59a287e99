"""What a replay found."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from feature_repo.replay.causes import MEANING, Cause, Kind
from recommender.errors import Check


class Example(NamedTuple):
    """A row of a cause. Numbers are of events."""

    request_id: str
    user_id: str  # a pseudonym
    as_of: datetime
    used: int
    expected: int
    missing: int
    surplus: int
    lag_s: float | None  # since the first that is missing at the end


class Group(NamedTuple):
    """Rows of one model version and day (UTC)."""

    version: str
    day: str
    causes: Mapping[Cause, int]


class Report(NamedTuple):
    """Rows by cause; those of a kind that is not `apart` were compared."""

    log: str
    allow_lag_s: float
    causes: Mapping[Cause, int]
    groups: Sequence[Group]
    lag_s: Mapping[str, float]  # p50, p90 and max, of rows behind
    examples: Mapping[Cause, Sequence[Example]]

    @property
    def rows(self) -> int:
        return sum(self.causes.values())

    @property
    def compared(self) -> int:
        return compared(self.causes)

    @property
    def skewed(self) -> int:
        return skewed(self.causes)

    @property
    def share(self) -> float:
        """Of compared rows, those that are skew; 0 without any."""
        return self.skewed / self.compared if self.compared else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "log": self.log,
            "allow_lag_s": self.allow_lag_s,
            "rows": self.rows,
            "compared": self.compared,
            "skewed": self.skewed,
            "share": self.share,
            "lag_s": dict(self.lag_s),
            "causes": [
                {
                    "cause": cause.value,
                    "kind": cause.kind.value,
                    "rows": rows,
                    "meaning": MEANING[cause],
                    "examples": [
                        example._asdict() | {"as_of": example.as_of.isoformat()}
                        for example in self.examples.get(cause, ())
                    ],
                }
                for cause, rows in self.causes.items()
            ],
            "by_version_and_day": [
                {
                    "version": group.version,
                    "day": group.day,
                    "compared": compared(group.causes),
                    "skewed": skewed(group.causes),
                    "causes": {cause.value: rows for cause, rows in group.causes.items()},
                }
                for group in self.groups
            ],
        }


def compared(causes: Mapping[Cause, int]) -> int:
    return sum(rows for cause, rows in causes.items() if cause.kind is not Kind.APART)


def skewed(causes: Mapping[Cause, int]) -> int:
    return sum(rows for cause, rows in causes.items() if cause.kind is Kind.SKEW)


def skew_check(report: Report, max_share: float) -> Check:
    """The share of skew against a limit that it has to stay below; 0 is below any."""
    return Check(
        name="features.skew: share of logged requests",
        value=report.share,
        limit=f"< {max_share:g}, of {report.compared:,} compared",
        passed=report.share < max_share or not report.skewed,
    )
