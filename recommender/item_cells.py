"""Items in small cells of near neighbours, for scoring graphs that look at some cells alone.

Shapes: N items, D width, C cells, M the most items of a cell.
"""

import warnings
from dataclasses import dataclass

import numpy as np

_BRANCHES = 64  # cells are split into at most so many at a time
_SAMPLE = 64  # items a new cell that its centre is fitted to
_ROUNDS = 8
_CHUNK = 65536  # rows whose distances to the centres are in memory at once


@dataclass(frozen=True)
class Cells:
    """Attributes:
    centroids: float32 [C, D], means of the cells' rows.
    order: int64 [N], places in the rows given, cell after cell.
    start, size: int64 [C], where in `order` a cell begins, and how many it has.
    """

    centroids: np.ndarray
    order: np.ndarray
    start: np.ndarray
    size: np.ndarray


def make_cells(rows_ND: np.ndarray, largest: int, seed: int = 0) -> Cells:
    """Cells of at most `largest` items, by k-means of k-means until each is small enough.

    As in hierarchical k-means (Nistér and Stewénius 2006, "Scalable Recognition with a Vocabulary
    Tree", CVPR): N (√C + √C) distances instead of N C, and a bound on M, which is what a request
    pays for.
    """
    rng = np.random.default_rng(seed)
    waiting, done = [np.arange(len(rows_ND))], []
    while waiting:
        members = waiting.pop()
        if len(members) <= largest:
            done.append(members)
            continue
        # Twice as many as would just do: cells of one size are not what k-means makes.
        parts = int(np.clip(-(-2 * len(members) // largest), 2, _BRANCHES))
        cell_n = _nearest(rows_ND, members, _fit(rows_ND, members, parts, rng))
        found = [members[cell_n == part] for part in range(parts)]
        found = [part for part in found if len(part)]
        if len(found) == 1:  # all alike: any halves are as good
            found = np.array_split(members, parts)
        waiting += found
    size = np.array([len(each) for each in done], np.int64)
    means = np.stack([rows_ND[each].mean(axis=0, dtype=np.float64) for each in done])
    start = np.cumsum(size) - size
    return Cells(means.astype(np.float32), np.concatenate(done), start, size)


def _fit(
    rows_ND: np.ndarray, members: np.ndarray, parts: int, rng: np.random.Generator
) -> np.ndarray:
    """Centres of a sample, [parts, D]."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    sample = rng.choice(members, min(len(members), parts * _SAMPLE), replace=False)
    means = KMeans(parts, n_init=1, max_iter=_ROUNDS, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than parts
        return np.asarray(means.fit(rows_ND[sample]).cluster_centers_, dtype=np.float32)


def _nearest(rows_ND: np.ndarray, members: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Which centre is nearest to each member, [len(members)]."""
    # |x - c|² without |x|², which is the same for every centre.
    half = np.square(centres).sum(axis=1) / 2
    found = [
        (rows_ND[members[begin : begin + _CHUNK]] @ centres.T - half).argmax(axis=1)
        for begin in range(0, len(members), _CHUNK)
    ]
    return np.concatenate(found)
