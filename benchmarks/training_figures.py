"""From the curves of two trainings to figures: who reaches which quality when.

A row is one measurement: seconds and processor_s so far, samples learnt from, ndcg@10, peak_mib.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any

Row = dict[str, Any]
CLOCKS = ("seconds", "processor_s")
FEWEST_TIMES_FASTER = 3.0


def reached(rows: Sequence[Row], target: float) -> Row | None:
    """The first measurement whose validation NDCG@10 is at least `target`."""
    return next((row for row in rows if row["ndcg@10"] >= target), None)


def samples_per_s(rows: Sequence[Row], clock: str = "seconds") -> float:
    """Next items learnt from, by the time up to the last measurement."""
    return float(rows[-1]["samples"] / rows[-1][clock])


def to_quality(ours: Sequence[Sequence[Row]], peer: Sequence[Row], target: float) -> dict[str, Any]:
    """How long both took to a validation NDCG@10 of `target`.

    Args:
        ours: the curves of several seeds; all of them have to reach it.
        peer: one curve. If it does not reach `target`, the time it was given is what there is,
            and the ratio a lower bound.

    Returns:
        {"target", "peer_reached", and for each clock "ours", "ours_all", "peer", "ratio"}; without
        clocks where one of ours did not reach it.
    """
    own = [reached(rows, target) for rows in ours]
    theirs = reached(peer, target)
    found: dict[str, Any] = {"target": target, "peer_reached": theirs is not None}
    if all(own):
        for clock in CLOCKS:
            each = [row[clock] for row in own if row]
            other = (theirs or peer[-1])[clock]
            found[clock] = {
                "ours": median(each),
                "ours_all": each,
                "peer": other,
                "ratio": other / median(each),
            }
    return found


def finding(found: dict[str, Any], clock: str = "seconds") -> str:
    """`to_quality` as a sentence, with what was aimed at."""
    target = f"validation NDCG@10 {found['target']:g}"
    if clock not in found:
        return f"{target}: not reached by ours in the time given"
    one = found[clock]
    least = "" if found["peer_reached"] else "more than "
    what = "wall clock" if clock == "seconds" else "processor time"
    end = "" if found["peer_reached"] else " (RecBole was stopped before it got there)"
    return (
        f"{target}, {what}: {one['ours']:.0f} s against {least}{one['peer']:.0f} s, "
        f"{least}{one['ratio']:.1f} times as fast (aim: {FEWEST_TIMES_FASTER:g}){end}"
    )
