"""The compression ledger as tables of text: the same on the page, the card and in benchmarks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from reporting.card.text import NONE, decimals, interval, span

Row = Mapping[str, Any]
LOSES, GAINS = "loses", "gains"  # marks of a difference that chance does not explain


class Table(NamedTuple):
    """Attributes:
    head: names of the columns; the first is what a row is of, the others are numbers.
    rows: cells.
    """

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


def quality_table(rows: Sequence[Row]) -> Table:
    """What each step keeps, beside the full model and the row before, with 95 % intervals."""
    head = ("step", "NDCG@10", "kept", "less full", "less row before", "Recall@10")
    return Table(
        head,
        [
            (
                row["step"],
                interval(row["ndcg@10"], row["intervals"]["ndcg@10"]),
                kept(row),
                _difference(row["to_full"]),
                _difference(row["to_before"]),
                interval(row["recall@10"], row["intervals"]["recall@10"]),
            )
            for row in rows
        ],
    )


def cost_table(rows: Sequence[Row]) -> Table:
    """What each step's ranker takes, and what the step itself took."""
    head = (
        "step",
        "parameters",
        "bytes",
        "memory, MB",
        "p50 / p99 of 1, ms",
        "p50 / p99 of 32, ms",
        "answers/s",
        "step, s",
        "processor, s",
        "epochs",
    )
    return Table(
        head,
        [
            (
                row["step"] + ("" if row["runtime"] == "onnxruntime" else f" ({row['runtime']})"),
                f"{row['parameters']:,}",
                _times(f"{row['bytes']:,}", row["times_smaller"]),
                NONE if row["memory_bytes"] is None else f"{row['memory_bytes'] / 1e6:.1f}",
                _latency(row, ""),
                _latency(row, "_batch_32"),
                _times(f"{row['answers_per_s']:,.0f}", row["times_throughput"]),
                f"{row['seconds']:.1f}",
                f"{row['processor_seconds']:.1f}",
                str(row["epochs"]),
            )
            for row in rows
        ],
    )


def slice_table(row: Row) -> Table:
    """The slices of a row, those that lost most first."""
    head = ("slice", "users", "full", "NDCG@10", "difference", "95 % of all slices", "")
    groups = [group for group in row["slices"] if "difference" in group]
    return Table(
        head,
        [
            (
                f"{group['by']}: {group['slice']}",
                f"{group['users']:,}",
                decimals(group["full_ndcg@10"]),
                decimals(group["ndcg@10"]),
                interval(group["difference"], group["difference_interval"], signed=True),
                span(group["simultaneous_interval"], signed=True),
                mark(group["simultaneous_interval"]),
            )
            for group in sorted(groups, key=lambda group: group["difference"])
        ],
    )


def row_line(row: Row) -> str:
    """A row in one line, for whoever waits for the next."""
    quality, took = f"{row['step']}: NDCG@10 {decimals(row['ndcg@10'])}", f"{row['seconds']:.0f} s"
    if row["to_full"] is None:
        return f"{quality}, {row['bytes'] / 1000:,.0f} kB, p50 {row['p50_ms']:.2f} ms, {took}"
    less = decimals(row["to_full"]["difference"], signed=True)
    between = span(row["to_full"]["interval"], signed=True)
    smaller, faster = row["times_smaller"], row["times_faster"]
    return f"{quality} ({less}, {between}), {smaller:.1f}x smaller, {faster:.1f}x faster, {took}"


def kept(row: Row) -> str:
    """Of the full model's NDCG@10."""
    if row["to_full"] is None:
        return NONE
    full = row["ndcg@10"] - row["to_full"]["difference"]
    return f"{row['ndcg@10'] / full:.1%}" if full else NONE


def mark(bounds: Sequence[float] | None) -> str:
    """Whether an interval of a difference leaves chance out."""
    if bounds is None:
        return ""
    return LOSES if bounds[1] < 0 else GAINS if bounds[0] > 0 else ""


def slices_that_lose(row: Row) -> list[str]:
    """Names of a row's slices that lost beyond chance, worst first."""
    return [cells[0] for cells in slice_table(row).rows if cells[-1] == LOSES]


def _difference(found: Mapping[str, Any] | None) -> str:
    return NONE if found is None else interval(found["difference"], found["interval"], signed=True)


def _latency(row: Row, batch: str) -> str:
    both = f"{row[f'p50_ms{batch}']:.2f} / {row[f'p99_ms{batch}']:.2f}"
    return _times(both, row[f"times_faster{batch}"])


def _times(text: str, ratio: float) -> str:
    return text if ratio == 1 else f"{text} ({ratio:.1f}×)"
