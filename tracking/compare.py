"""Two registered versions side by side: settings that differ, metrics, slices, curves' ends."""

import math
from collections.abc import Mapping
from typing import Any

from tracking.names import flattened
from tracking.registry import Registered
from tracking.runs import CURVES
from tracking.store import Store, explained
from tracking.versions import CONFIG, EVALUATION, document

NONE = "–"


def compared(store: Store, one: Registered, other: Registered) -> dict[str, Any]:
    """JSON-ready: {"versions", "data", "settings", "metrics", "slices", "curves"}.

    Each row has what it is about and "values": [of one, of the other], None for what one lacks.

    Raises:
        TrackingError: what was written down of one of them is gone.
    """
    both = (one, other)
    configs = [dict(flattened(document(store, each, CONFIG))) for each in both]
    reports = [document(store, each, EVALUATION) for each in both]
    return {
        "versions": [{"registered": each.number, "version": each.version} for each in both],
        "data": _rows([_fingerprints(each) for each in both], "of", differing=True),
        "settings": _rows(configs, "key", differing=True),
        "metrics": _rows([_metrics(each) for each in reports], "metric"),
        "slices": [
            row | dict(zip(("by", "slice"), row.pop("of"), strict=True))
            for row in _rows([_slices(each) for each in reports], "of")
        ],
        "curves": _rows([_curves(store, each) for each in both], "of"),
    }


def interval(report: Mapping[str, Any], metric: str) -> list[float] | None:
    """The 95 % interval of a test metric in evaluation.json; None where it was not estimated."""
    found = (report.get("intervals") or {}).get(metric)
    return None if found is None else [float(edge) for edge in found]


def _fingerprints(found: Registered) -> dict[str, Any]:
    kinds = ("data", "windows", "vectors", "model")
    tags = {kind: found.tags.get(f"{kind}_fingerprint") for kind in kinds}
    return tags | {"code": found.tags.get("git.sha")}


def _rows(pair: list[dict[Any, Any]], label: str, differing: bool = False) -> list[dict[str, Any]]:
    keys = dict.fromkeys([*pair[0], *pair[1]])
    rows = [{label: key, "values": [each.get(key) for each in pair]} for key in keys]
    return [row for row in rows if not differing or row["values"][0] != row["values"][1]]


def _metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in report["test"]["model"].items():
        if isinstance(value, int | float) and math.isfinite(value):
            found[name] = value
            if edges := interval(report, name):
                found[f"{name}, 95 % interval"] = edges
    return found


def _slices(report: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    return {(row["by"], row["slice"]): row["ndcg@10"] for row in report.get("slices") or []}


def _curves(store: Store, found: Registered) -> dict[str, Any]:
    """How the training ended: of the run, whose curves are the versions' that come of it."""
    with explained(store):
        rows = store.client.get_metric_history(found.run, f"{CURVES}/train_loss")
        run = store.client.get_run(found.run)
    values = run.data.metrics
    last = max(rows, key=lambda row: row.step, default=None)
    return {
        "epochs": None if last is None else last.step + 1,
        "last training loss": None if last is None else last.value,
        "best epoch": None if "best/epoch" not in values else int(values["best/epoch"]) + 1,
        "best validation NDCG@10": values.get("best/ndcg_at_10"),
        "seconds": values.get("training/seconds"),
    }
