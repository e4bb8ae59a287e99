"""The runs of benchmarks.quality as one Markdown table."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

HEAD = (
    "| configuration | seeds | parameters | epochs | minutes | valid NDCG@10 | test HR@10 |"
    " test NDCG@10 | unmasked HR@10 / NDCG@10 |"
)


def as_markdown(runs: Sequence[dict[str, Any]]) -> str:
    """A row a configuration, in the order of measuring: mean over seeds, lowest to highest."""
    groups: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["label"], run["tie_seed"] is not None), []).append(run)
    lines = [HEAD, "|" + "---|" * 9]
    for (label, shuffled), own in groups.items():
        cells = [
            f"{label}, ties shuffled" if shuffled else label,
            str(len(own)),
            f"{own[0]['parameters']:,}",
            f"{fmean(run['best_epoch'] for run in own):.0f} of {own[0]['training']['epochs']}",
            f"{fmean(run['seconds'] for run in own) / 60:.0f}",
            spread([run["valid"]["ndcg@10"] for run in own]),
            spread([run["test"]["hr@10"] for run in own]),
            spread([run["test"]["ndcg@10"] for run in own]),
            " / ".join(
                f"{fmean(run['unmasked'][k] for run in own):.4f}" for k in ("hr@10", "ndcg@10")
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """The mean; of several also the lowest and the highest."""
    mean = f"{fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f}–{max(values):.4f})"
