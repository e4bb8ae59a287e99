"""Rows of a compression ledger, as recommender/compression writes them, with made-up figures."""

from typing import Any

FULL_NDCG = 0.1234


def ledger_row(
    step: str, ndcg: float = FULL_NDCG, smaller: float = 1.0, faster: float = 1.0
) -> Any:
    """The full model's where nothing differs; intervals are 0.01 to both sides."""
    around = [ndcg - 0.01, ndcg + 0.01]
    less = ndcg - FULL_NDCG
    compared = {"difference": less, "interval": [less - 0.001, less + 0.001]}
    row: dict[str, Any] = {
        "step": step,
        "runtime": "onnxruntime",
        "ndcg@10": ndcg,
        "recall@10": 1.8 * ndcg,
        "intervals": {"ndcg@10": around, "recall@10": [1.8 * each for each in around]},
        "to_full": None if step == "full" else compared,
        "to_before": None if step == "full" else compared,
        "slices": [slice_row("head", step, 0.0), slice_row("long tail", step, less - 0.01)],
        "parameters": 9000,
        "bytes": round(90_000 / smaller),
        "memory_bytes": 5_000_000,
        "times_smaller": smaller,
        "times_throughput": faster,
        "answers_per_s": 3000.0 * faster,
        "seconds": 12.0,
        "processor_seconds": 20.0,
        "epochs": 2,
        "curve": [],
    }
    for batch, end in ((1, ""), (32, "_batch_32")):
        row |= {
            f"p50_ms{end}": 0.4 * batch / faster,
            f"p99_ms{end}": 0.8 * batch / faster,
            f"calls{end}": 300,
            f"full_p50_ms{end}": 0.4 * batch,
            f"times_faster{end}": faster,
        }
    return row


def slice_row(name: str, step: str, less: float) -> dict[str, Any]:
    """A slice of item popularity, `less` below the full model's 0.1."""
    row = {"by": "item popularity", "slice": name, "users": 314, "ndcg@10": 0.1 + less}
    row |= {"recall@10": 0.2, "interval": [0.05, 0.15]}
    if step == "full":
        return row
    near, far = [less - 0.002, less + 0.002], [less - 0.004, less + 0.004]
    compared = {"full_ndcg@10": 0.1, "difference": less}
    return row | compared | {"difference_interval": near, "simultaneous_interval": far}
