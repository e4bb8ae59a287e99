"""What the steps of a run write, by hand and small, for the model card: made-up figures."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ledger_rows import ledger_row

from recommender import schema

SLICES = [
    ("activity", "fewer than 20 events", 420, 0.1312, [0.1101, 0.1523], 0.1290, [-0.011, 0.015]),
    ("activity", "200 events and more", 61, 0.0402, [0.0101, 0.0703], 0.0600, [-0.041, 0.001]),
    ("item popularity", "long tail", 240, 0.0611, [0.0402, 0.0820], 0.0902, [-0.0481, -0.0101]),
    ("item popularity", "head", 300, 0.1955, [0.1650, 0.2260], 0.1702, [0.0102, 0.0404]),
    (
        "category",
        "Children's | <b>Sci-Fi</b>",
        130,
        0.1104,
        [0.0701, 0.1507],
        0.1100,
        [-0.02, 0.02],
    ),
]


def slices() -> list[dict[str, Any]]:
    return [
        {
            "by": by,
            "slice": name,
            "users": users,
            "ndcg@10": ndcg,
            "hr@10": ndcg * 1.8,
            "interval": interval,
            "baseline": "item-knn",
            "baseline_ndcg@10": 0.0905,
            "champion_ndcg@10": champion,
            "difference_interval": difference,
            "simultaneous_interval": difference if users >= 100 else None,
        }
        for by, name, users, ndcg, interval, champion, difference in SLICES
    ]


def metrics(ndcg: float) -> dict[str, float]:
    quality = {f"ndcg@{k}": ndcg * s for k, s in ((5, 0.8), (10, 1), (20, 1.2))}
    quality |= {f"hr@{k}": 1.8 * ndcg * s for k, s in ((5, 0.7), (10, 1), (20, 1.5))}
    return quality | {"mrr": 0.9 * ndcg, "coverage@10": 0.61}


def old_evaluation() -> dict[str, Any]:
    """As releases before slices and intervals wrote it."""
    return {
        "protocol": "leave-one-out, full ranking",
        "users": 943,
        "items": 1349,
        "test": {
            "popularity": metrics(0.0432),
            "item-knn": metrics(0.0558),
            "model": metrics(0.1234),
        },
        "gate": [{"name": "test NDCG@10", "value": 0.1234, "limit": ">= 0.1050", "passed": True}],
    }


def evaluation() -> dict[str, Any]:
    """With everything that an evaluation can have."""
    old = old_evaluation()
    for novelty, row in enumerate(old["test"].values()):
        row |= {"novelty@10": 2.25 + novelty, "popularity_bias": 1.51 - novelty / 8}
    behaviour = {
        "name": "behaviour: order matters: overlap with reversed",
        "value": 0.42,
        "limit": "<= 0.95",
        "passed": True,
    }
    return old | {
        "intervals": {"ndcg@10": [0.1101, 0.1367], "hr@10": [0.2001, 0.2441]},
        "unmasked": metrics(0.1011),
        "ties": {"tied_events": 0.4, "shuffles": 3, "ndcg@10": 0.1199, "hr@10": 0.2155},
        "calibration": {
            "ece": 0.0321,
            "bins": [
                {"confidence": 0.02 * i, "accuracy": 0.018 * i, "users": 94} for i in range(1, 11)
            ],
        },
        "slices": slices(),
        "champion": {
            "version": "3",
            "name": "a1b2c3d4e5f6",
            "ndcg@10": 0.1200,
            "hr@10": 0.2100,
            "difference": 0.0034,
            "difference_interval": [-0.0021, 0.0089],
        },
        "behaviour": {"users": 900, "reversed_overlap": 0.42},
        "gate": [*old["gate"], behaviour],
    }


def snapshot() -> dict[str, Any]:
    return {
        "fingerprint": "fa2a0934" * 8,
        "source": {
            "name": "Films | <i>small</i>",
            "license": "research only",
            "acknowledgement": "Thanks to *everyone*",
            "privacy": {
                "user_key_env": "FILM_KEY",
                "retention_days": 730,
                "drop_columns": {"users": ["zip"]},
            },
        },
        "read": {"events": 1200, "items": 40, "users": 31},
        "kept": {"events": 1100, "items": 40, "users": 30},
        "rejected": {"events": {"missing user_id": 60}, "items": {}, "users": {"erased user": 1}},
        "filtered": {"events": {"value >= 3": 40}},
    }


def features() -> dict[str, Any]:
    counts = {"users": 28, "items": 33, "events": 1044, "all_users": 30, "all_events": 1100}
    return {"counts": counts, "k_core": 5, "history_length": 1000}


def vectors() -> dict[str, Any]:
    return {"count": 40, "dim": 384, "encoder": "all-MiniLM-L6-v2", "pooling": "mean"}


def model() -> dict[str, Any]:
    shape = {"dim": 16, "layers": 1, "heads": 2, "feedforward": 1, "max_length": 50, "dropout": 0.1}
    return {"config": shape, "items": 33, "parameters": 9871, "text_dim": 384}


def training() -> dict[str, Any]:
    curves = [
        {"epoch": i, "train_loss": 5 - i, "ndcg@10": 0.1 + i / 50, "learning_rate": 0.001}
        for i in range(3)
    ]
    return {
        "curves": curves,
        "best_epoch": 2,
        "seed": 7,
        "parameters": 9871,
        "seconds": 12.0,
        "config": {"learning_rate": 0.001, "batch_size": 64, "loss": "softmax"},
    }


def manifest() -> dict[str, Any]:
    rows = [ledger_row("full"), ledger_row("INT8", 0.1229, smaller=4, faster=2)]
    return {
        "version": "0123456789ab",
        "created": "2026-11-27T14:38:02+00:00",
        "code": "7c0650feb1e9c0db",
        "data_fingerprint": "fa2a0934" * 8,
        "config": {"model": {"dim": 16.0, "dropout": 0.1}, "source": {"path": "/secret/place"}},
        "ledger": {"rows": rows, "checks": [], "measured": "how"},
        "tracking": {"model": "films", "registered": "4", "run": "5f0c", "git_sha": "abc1234"},
    }


def write_events(snapshot: Path, times: list[str], *, statistics: bool = True) -> None:
    """events.parquet of one user, an event an ISO time (UTC), a row group each."""
    rows = [
        {
            "user_id": "a",
            "item_id": str(i),
            "timestamp": datetime.fromisoformat(f"{time}+00:00"),
            "event_type": "view",
            "value": 1.0,
            "position": i,
        }
        for i, time in enumerate(times)
    ]
    table = pa.Table.from_pylist(rows, schema=schema.EVENTS)
    path = schema.table_path(snapshot, "events")
    pq.write_table(table, path, row_group_size=1, write_statistics=statistics)
