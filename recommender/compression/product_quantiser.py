"""Codes and codebooks for an item table: k-means of each piece of its rows.

Jégou, Douze and Schmid 2011, "Product Quantization for Nearest Neighbor Search", TPAMI 33(1),
section II. RecJPQ (arXiv:2312.06165) takes its codes from a factorisation of the interactions
instead, as its model is not trained yet; here the trained table is there, and near rows get like
codes.

Shapes: N+1 rows (0 is padding), M pieces, C centroids of each, D width.
"""

import warnings
from typing import Any

import numpy as np

ROUNDS = 50  # of k-means at most


def fit_codebooks(table_ND: np.ndarray, subvectors: int, centroids: int, seed: int) -> np.ndarray:
    """float32 [M, C, D / M]: of each piece of the rows its k-means.

    A piece with no more distinct values than centroids is kept exactly; the centroids that are
    left over repeat the first.

    Args:
        table_ND: the items' rows, without padding; D is a multiple of `subvectors`.
    """
    pieces_NMW = table_ND.reshape(len(table_ND), subvectors, -1)
    books = [_centroids(pieces_NMW[:, m], centroids, seed + m) for m in range(subvectors)]
    return np.stack(books).astype(np.float32)


def _centroids(values_NW: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    distinct = np.unique(values_NW, axis=0)
    if len(distinct) <= count:
        return np.concatenate([distinct, np.repeat(distinct[:1], count - len(distinct), axis=0)])
    common: dict[str, Any] = {"n_clusters": count, "max_iter": ROUNDS, "random_state": seed}
    # All rows in every round, while that is a matter of seconds.
    if len(values_NW) <= 100 * count:
        means: Any = KMeans(n_init=1, **common)
    else:
        means = MiniBatchKMeans(n_init=1, batch_size=16 * count, **common)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(means.fit(values_NW).cluster_centers_)
