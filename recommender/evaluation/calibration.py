"""Calibration: is an item that the model gives 20 % chosen by 20 % of the users?

Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), equations 2 to 4,
of the first item of each list. The bins hold equally many users, not equal ranges (Nixon et al.
2019, arXiv:1904.01685): next-item probabilities are mostly small, and would share one bin.
"""

from typing import Any

import numpy as np

BINS = 10


def calibration(
    confidence_U: np.ndarray, correct_U: np.ndarray, bins: int = BINS
) -> dict[str, Any]:
    """The expected calibration error and the reliability bins, from the least confident on.

    Args:
        confidence_U: softmax probability of each user's first item.
        correct_U: whether the user chose it.

    Returns:
        {"ece", "bins": [{"confidence", "accuracy", "users"}]}; each bin's means.
    """
    order = np.argsort(confidence_U, kind="stable")
    rows = [
        {
            "confidence": float(confidence_U[members].mean()),
            "accuracy": float(correct_U[members].mean()),
            "users": len(members),
        }
        for members in np.array_split(order, min(bins, len(order)))
    ]
    gaps = sum(row["users"] * abs(row["accuracy"] - row["confidence"]) for row in rows)
    return {"ece": gaps / len(order), "bins": rows}
