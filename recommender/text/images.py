"""Image vectors that came with the items: checked, and of length one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recommender import schema
from recommender.errors import KuberecError


@dataclass(frozen=True)
class ImageVectors:
    """Attributes:
    column: float32 lists of one length, L2-normalised; null where an item has no image.
    description: column, dim and count (of items that have one).
    """

    column: pa.Array
    description: dict[str, Any]


def image_vectors(items: pa.Table, name: str) -> ImageVectors:
    """The vectors in the column `name` of the items.

    Null, and a vector of zeros, mean that there is no image.

    Raises:
        KuberecError: no such column, not lists of numbers, not all of one length, a missing or
            infinite number, or no image at all.
    """
    if name not in items.column_names:
        raise KuberecError(
            f"text.image_column is '{name}', which the items do not have; their columns: "
            f"{', '.join(items.column_names)}"
        )
    column = items[name].combine_chunks()
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (lists or pa.types.is_fixed_size_list(kind)) or not _is_number(kind.value_type):
        raise KuberecError(f"items.{name} is {kind}: text.image_column must hold lists of numbers")
    given = column.is_valid().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(given)
    if not len(rows):
        raise KuberecError(f"items.{name} has no vector at all: leave text.image_column out")
    present = column.take(pa.array(rows))
    lengths = pc.list_value_length(present).to_numpy(zero_copy_only=False)
    dim = int(np.bincount(lengths).argmax())
    if dim == 0 or (lengths != dim).any():
        odd = rows[np.argmax(lengths != dim)] if dim else rows[0]
        raise KuberecError(
            f"items.{name} of item '{items[schema.ITEM_ID][int(odd)]}' has "
            f"{len(column[int(odd)])} numbers, most have {dim}: all must be of one length above 0, "
            "or null"
        )
    numbers = pc.cast(present.flatten(), pa.float64()).to_numpy(zero_copy_only=False)
    vectors = numbers.reshape(-1, dim)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        item = items[schema.ITEM_ID][int(rows[np.argmin(finite)])]
        raise KuberecError(
            f"items.{name} of item '{item}' holds a null, NaN or infinite number: "
            "give finite numbers, or null for the whole vector"
        )
    norm = np.linalg.norm(vectors, axis=1)
    seen = norm > 0  # zeros have no direction
    missing = np.ones(len(column), bool)
    missing[rows[seen]] = False
    unit = (vectors[seen] / norm[seen, None]).astype(np.float32)
    ends = np.cumsum(np.where(missing, 0, dim))
    # Not of fixed size: pyarrow before 26 cannot read nulls of those back from parquet.
    lists_of = pa.LargeListArray.from_arrays(
        pa.array(np.concatenate([[0], ends])), pa.array(unit.ravel()), mask=pa.array(missing)
    )
    return ImageVectors(lists_of, {"column": name, "dim": dim, "count": int(seen.sum())})


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)
