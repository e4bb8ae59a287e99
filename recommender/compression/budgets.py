"""The ledger's last row against its budgets; a blown one names the step that blew it.

A budget over all users is judged by the measured figure. A slice has few users, and there are many
slices, so there the rule is that of the evaluation's gate: a slice fails if it lost more than is
allowed *and* chance is ruled out as the cause, which is where the interval of its paired difference
to the full model (recommender.evaluation.intervals.paired_interval) lies below 0 as a whole. The
intervals of all slices that are judged hold together with 95 % (Bonferroni), so a compression that
loses nothing anywhere is stopped by its slices in at most 5 of 100 cases. What it cannot do is
prove a small slice safe: its interval says how much it may have lost.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recommender.errors import Check
from recommender.settings import CompressionConfig

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Budget:
    """One limit: what it is of, the figure of a row, and whether a row is within it."""

    what: str
    value: Callable[[Row], float | int]
    limit: str
    kept: Callable[[Row], bool]


def budget_checks(rows: Sequence[Row], config: CompressionConfig) -> list[Check]:
    """Every budget against the last row.

    Args:
        rows: of the ledger; the first is the full model's.
    """
    checks = [_check(rows, budget) for budget in _budgets(rows[-1], config)]
    return [*checks, *_slice_checks(rows, config)]


def lost(row: Row) -> float:
    """NDCG@10 lost against the full model, as a share of it; below 0: gained."""
    if row["to_full"] is None:
        return 0.0
    full = row["ndcg@10"] - row["to_full"]["difference"]
    return -row["to_full"]["difference"] / full if full else 0.0


def blamed(kept: Sequence[bool]) -> int | None:
    """The row since which a budget is blown without a break; None where none ever kept it.

    Where a step loses what a later one wins back, the later one's loss counts, not the first's.
    """
    if kept[-1] or not any(kept):
        return None
    return len(kept) - list(reversed(kept)).index(True)


def _budgets(served: Row, config: CompressionConfig) -> list[Budget]:
    most = config.max_quality_loss
    limits = [
        Budget(
            "NDCG@10 lost", lost, f"<= {most:.1%}{_between(served)}", lambda row: lost(row) <= most
        ),
    ]
    if config.steps:  # without any the full model serves, which is once as small as itself
        limits += [
            _at_least("times smaller", "times_smaller", config.min_size_ratio),
            _at_least("times faster (p50)", "times_faster", config.min_speedup),
        ]
    limits.append(_at_most("bytes", "bytes", config.max_bytes))
    if config.max_p99_ms is not None:
        limits.append(_at_most("p99, ms", "p99_ms", config.max_p99_ms))
    if config.max_memory_bytes is not None:
        limits.append(_at_most("bytes of memory", "memory_bytes", config.max_memory_bytes))
    return limits


def _at_least(what: str, key: str, limit: float) -> Budget:
    return Budget(what, lambda row: row[key], f">= {limit:g}", lambda row: row[key] >= limit)


def _at_most(what: str, key: str, limit: float) -> Budget:
    return Budget(what, lambda row: row[key], f"<= {limit:,}", lambda row: row[key] <= limit)


def _between(served: Row) -> str:
    """The interval of the loss, for the reader: the full model's mean is taken as it is."""
    if served["to_full"] is None or not served["ndcg@10"]:
        return ""
    full = served["ndcg@10"] - served["to_full"]["difference"]
    low, high = served["to_full"]["interval"]
    return f", 95 % interval {-high / full:.1%} to {-low / full:.1%}" if full else ""


def _slice_checks(rows: Sequence[Row], config: CompressionConfig) -> list[Check]:
    """A check for each slice that lost too much, or one that says that none did."""
    judged = [
        place
        for place, group in enumerate(rows[-1]["slices"])
        if group.get("simultaneous_interval") and _limit(group, config) < 1
    ]
    checks = [_check(rows, _of_slice(rows[-1], place, config)) for place in judged]
    worse = [check for check in checks if not check.passed]
    if worse or not judged:
        return worse
    name = f"{rows[-1]['step']}: slices that lost too much, of {len(judged)} with enough users"
    return [Check(name, 0, "0 that lost more than is allowed, beyond chance", True)]


def _of_slice(served: Row, place: int, config: CompressionConfig) -> Budget:
    group = served["slices"][place]
    most = _limit(group, config)
    low, high = group["simultaneous_interval"]
    full = group["full_ndcg@10"]
    limit = (
        f">= {full * (1 - most):.4f}, the full model's {full:.4f} less {most:.0%}, or a difference "
        f"that may be chance: here {low:+.4f} to {high:+.4f}"
    )

    def kept(row: Row) -> bool:
        own = row["slices"][place]
        found = own.get("simultaneous_interval")
        return found is None or own["ndcg@10"] >= full * (1 - most) or found[1] >= 0

    what = f"NDCG@10 of {group['by']} '{group['slice']}' ({group['users']:,} users)"
    return Budget(what, lambda row: row["slices"][place]["ndcg@10"], limit, kept)


def _limit(group: Row, config: CompressionConfig) -> float:
    """Twice the loss over all users, where nothing is set: a slice's is spread wider."""
    most = config.max_slice_quality_loss
    usual = min(2 * config.max_quality_loss, 1.0) if most is None else most
    return config.max_slice_losses.get(f"{group['by']}: {group['slice']}", usual)


def _check(rows: Sequence[Row], budget: Budget) -> Check:
    kept = [budget.kept(row) for row in rows]
    name = f"{rows[-1]['step']}: {budget.what}"
    if not kept[-1]:
        place = blamed(kept)
        since = "no step reached it" if place is None else f"blown by step {rows[place]['step']}"
        name += f" ({since})"
    value = budget.value(rows[-1])
    return Check(
        name, round(value, 4) if isinstance(value, float) else value, budget.limit, kept[-1]
    )
