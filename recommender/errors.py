"""Errors whose message is for the user: where it happened, what was found, what to do about it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


class KuberecError(Exception):
    """Shown as its message alone, without a traceback, and ends the command with status 1."""


class FolderNotWritable(KuberecError, PermissionError):
    """An output folder in which nothing can be written."""


@dataclass(frozen=True)
class Check:
    """One measured number against its limit."""

    name: str
    value: float | int | str
    limit: str  # as a reader would say it: ">= 0.105", "<= 500,000 bytes"
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def table(checks: Sequence[Check]) -> list[str]:
    """Every number against its limit, a line a check, the failed ones marked."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        value = f"{check.value:.4g}" if isinstance(check.value, float) else str(check.value)
        mark = "ok  " if check.passed else "FAIL"
        lines.append(f"  {mark} {check.name:<{width}}  {value}  (limit {check.limit})")
    return lines


class GateFailed(KuberecError):
    """A gate's report: every number against its limit, the failed ones marked."""

    def __init__(self, gate: str, checks: Sequence[Check], note: str = "") -> None:
        """`note`: what a reader should look at first."""
        failed = sum(not check.passed for check in checks)
        title = f"gate '{gate}' failed: {failed} of {len(checks)} checks"
        title += f" ({note})" if note else ""
        super().__init__("\n".join([title, *table(checks)]))
        self.gate = gate
        self.checks = list(checks)


def require(gate: str, checks: Sequence[Check]) -> None:
    """Raise GateFailed with the whole report unless every check passed."""
    if not all(check.passed for check in checks):
        raise GateFailed(gate, checks)
