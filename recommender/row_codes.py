"""Rows of an item table in small, in numpy: bytes with a scale a row, or codes of centroids.

Shapes: n rows, D width, B numbers in a block, M pieces, C centroids of each.
"""

import numpy as np

BLOCKS = (256, 128, 64, 32, 16)  # numbers that ONNX Runtime's product of 8 bits reads at a time
ZERO, WIDEST = 128, 127  # the byte of 0, and how far from it the others are
SMALLEST_SCALE = 1e-12  # of a row of zeros
COLUMNS = 16  # of a table as bytes, the product makes scores of so many items alike
CHUNK = 16384  # rows whose distances to the centroids are in memory at once


def block_of(width: int) -> int:
    """How many numbers of a row are one block: the most that divide it."""
    return next(block for block in BLOCKS if width % block == 0)


def to_int8(rows_nD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [n, D / B, B], float32 [n, 1]): |row - scale · (byte - ZERO)| <= scale / 2."""
    rows_nD = rows_nD.astype(np.float32)
    scales_n1 = np.abs(rows_nD).max(axis=1, keepdims=True) / np.float32(WIDEST)
    scales_n1 = np.maximum(scales_n1, np.float32(SMALLEST_SCALE))
    codes_nD = (np.rint(rows_nD / scales_n1) + ZERO).astype(np.uint8)
    return codes_nD.reshape(len(rows_nD), -1, block_of(rows_nD.shape[1])), scales_n1


def whole_columns(rows: np.ndarray) -> np.ndarray:
    """The rows, and zeros behind them up to a multiple of COLUMNS.

    The product's last items, where they fill no whole columns, are added up in another order: they
    would score otherwise, by the last bit, once more items are behind them.
    """
    missing = -len(rows) % COLUMNS
    return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])


def nearest_centroids(rows_nD: np.ndarray, books_MCW: np.ndarray) -> np.ndarray:
    """uint8 [n, M]: of each piece of a row the nearest centroid of codebooks [M, C, D / M]."""
    pieces, _, width = books_MCW.shape
    lengths_M1C = np.square(books_MCW).sum(axis=-1)[:, None]
    found = []
    for start in range(0, len(rows_nD), CHUNK):
        part_nMW = rows_nD[start : start + CHUNK].reshape(-1, pieces, width)
        # |x - c|² without |x|², which is the same for every centroid.
        far_MnC = lengths_M1C - 2 * part_nMW.transpose(1, 0, 2) @ books_MCW.transpose(0, 2, 1)
        found.append(far_MnC.argmin(axis=-1).T.astype(np.uint8))
    return np.ascontiguousarray(np.concatenate(found))
