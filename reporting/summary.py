"""Everything a run has to say, gathered from what its steps wrote, as one JSON-ready dict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recommender.files import read_json
from reporting.card.build import build_card
from reporting.card.data import period_of
from reporting.rollout_text import step_rows, without_canary
from reporting.settings import CardConfig
from serving.rollout.outcome import headline
from serving.rollout.record import Rollout

TIE_RULE = "events of one timestamp stay in file order"


def summarize(
    *,
    snapshot: Path,
    validation: Path,
    item_vectors: Path,
    windows: Path,
    model: Path,
    evaluation: Path,
    model_version: Path,
    rollout: Path,
    samples: Sequence[Mapping[str, Any]],
    card: Mapping[str, Any],
    serving: Mapping[str, Any],
) -> dict[str, Any]:
    """The summary that the page and the console show.

    Args:
        snapshot, validation, item_vectors, windows, model, evaluation, model_version, rollout:
            what the steps of those names wrote.
        samples: answers of the endpoint, by title (reporting.answers).
        card, serving: the run's sections.
    """
    manifest = read_json(model_version / "kuberec.json")
    measured = read_json(evaluation)
    ledger = manifest["ledger"]
    served = read_json(rollout)
    checked = read_json(validation / "validation.json")
    data, features = read_json(snapshot / "snapshot.json"), read_json(windows / "features.json")
    vectors, trained = read_json(item_vectors / "encoder.json"), read_json(model / "training.json")
    return {
        "version": manifest["version"],
        "created": manifest["created"],
        "data": _data(data, features),
        "vectors": vectors,
        "validation": _validation(checked)
        | {"data_docs": str(validation / "data_docs"), "skew": _skew(validation / "skew.json")},
        "training": _training(trained),
        "evaluation": {
            "protocol": f"{measured['protocol']}; {measured['users']:,} users",
            "rankers": _rankers(measured["test"]),
        },
        "compression": {"rows": ledger["rows"], "measured": ledger["measured"]},
        "parity": manifest["parity"],
        "gates": [
            {"name": "evaluate", "checks": measured["gate"]},
            {"name": "compress", "checks": ledger["checks"]},
            {"name": "export", "checks": manifest["checks"]},
            {"name": "rollout", "checks": served["rows"]},
        ],
        "serving": {k: v for k, v in served.items() if k not in ("timeline", "verdict")},
        "rollout": _rollout(served),
        "samples": list(samples),
        "headline": _headline(measured["test"], ledger["rows"]),
        "card": build_card(
            CardConfig.model_validate(card),
            snapshot=data,
            period=period_of(snapshot),
            features=features,
            vectors=vectors,
            model=read_json(model / "model.json"),
            training=trained,
            evaluation=measured,
            manifest=manifest,
            serving=serving,
        ),
    }


def _rollout(served: Mapping[str, Any]) -> dict[str, Any]:
    """How the version came to serve; its page has all of it."""
    if served.get("timeline") is None:
        return {"headline": without_canary(served), "steps": []}
    rollout = Rollout.model_validate(served["timeline"])
    rows = [row._asdict() for row in step_rows(rollout)]
    return {
        "headline": headline(rollout),
        "steps": [{k: v for k, v in row.items() if k != "checks"} for row in rows],
    }


def _data(snapshot: Mapping[str, Any], windows: Mapping[str, Any]) -> dict[str, Any]:
    tables = []
    for table, read in snapshot["read"].items():
        reasons = snapshot["rejected"].get(table, {})
        tables.append(
            {
                "table": table,
                "read": read,
                "kept": snapshot["kept"][table],
                "rejected": sum(reasons.values()),
                "why": ", ".join(f"{reason}: {count:,}" for reason, count in reasons.items()),
            }
        )
    counts = windows["counts"]
    core = (
        f"{windows['k_core']}-core for training: {counts['users']:,} users, "
        f"{counts['items']:,} items, {counts['events']:,} events; {TIE_RULE}"
    )
    return {
        "name": snapshot["source"]["name"],
        "acknowledgement": snapshot["source"]["acknowledgement"],
        "fingerprint": snapshot["fingerprint"],
        "tables": tables,
        "notes": core,
    }


def _validation(checked: Mapping[str, Any]) -> dict[str, Any]:
    """How many expectations are met, what was warned of, and how far from what was accepted."""
    results = checked["expectations"]
    drift = [row for row in results if row["name"].startswith("drift.")]
    return {
        "total": len(results),
        "passed": sum(result["success"] for result in results),
        "warnings": [_finding(row) for row in results if not row["success"]],
        "compared": checked["drift"]["said"],
        "drift": [_finding(row) for row in drift if row["observed"] is not None],
    }


def _skew(found: Path) -> dict[str, Any] | None:
    """What a replay of logged requests said; None where none was asked for."""
    if not found.is_file():
        return None
    content = read_json(found)
    return {"said": content["said"], "causes": (content["report"] or {}).get("causes", [])}


def _finding(row: Mapping[str, Any]) -> dict[str, Any]:
    found = f"{row['unexpected_count']:,} values" if row["unexpected_count"] else row["observed"]
    said = row["error"] or row["said"] or ", ".join(map(str, row["samples"]))
    return {
        "check": row["name"],
        "severity": row["severity"],
        "found": f"{found:.3g}" if isinstance(found, float) else str(found),
        "limit": row["limit"],
        "said": said.splitlines()[0] if said else "",
        "passed": row["success"],
    }


def _rankers(test: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """The model, then the baselines from the best to the worst by NDCG@10."""
    names = sorted(test, key=lambda name: (name != "model", -test[name]["ndcg@10"]))
    return [{"ranker": name, **test[name]} for name in names]


def _training(training: Mapping[str, Any]) -> dict[str, Any]:
    """Epochs counted from 1, as a person counts them."""
    return {
        "epochs": [row | {"epoch": row["epoch"] + 1} for row in training["curves"]],
        "best_epoch": training["best_epoch"] + 1,
        "seconds": training["seconds"],
        "seed": training["seed"],
    }


def _headline(
    test: Mapping[str, Mapping[str, float]], rows: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    full, served = rows[0], rows[-1]
    return {
        "ndcg@10": test["model"]["ndcg@10"],
        "hr@10": test["model"]["hr@10"],
        "baseline_ndcg@10": max(
            metrics["ndcg@10"] for ranker, metrics in test.items() if ranker != "model"
        ),
        "served_ndcg@10": served["ndcg@10"],
        "quality_kept": served["ndcg@10"] / full["ndcg@10"],
        "times_smaller": served["times_smaller"],
        "times_faster": served["times_faster"],
    }
