"""Items that joined between two materialisations, online."""

import contextlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.config import EVENT_TIME
from feature_repo.materialize.encode import encode_rows
from feature_repo.materialize.state import hashes, known
from feature_repo.stores.layout import ViewLayout
from feature_repo.stores.open import open_rows
from recommender.files import atomic_file

_VIEW, _KEY = "item_features", "item_id"
_ALWAYS_S = 253_370_764_800  # the year 9999
_AT_ONCE = 2000


def write_items(store: Any, folder: Path, items: pa.Table) -> int:
    """Write rows of item_features, and note that they are there; how many.

    Args:
        store: feast.FeatureStore.
        folder: the feature store's, with hashes of what is in the store.
        items: the view's columns and event_time, each item once.
    """
    with contextlib.closing(open_rows(store, _VIEW)) as rows:
        found = known(rows.mark())
        # Noted before they are written: the next materialisation may not overlook one.
        if found.holds and (path := hashes(folder, _VIEW, found.holds)).is_file():
            _note(path, items[_KEY].combine_chunks())
        types = ViewLayout(store, _VIEW).types
        for start in range(0, items.num_rows, _AT_ONCE):
            part = items.slice(start, _AT_ONCE).combine_chunks()
            rows.put(encode_rows(part, _KEY, EVENT_TIME, types), _ALWAYS_S, None)
    return items.num_rows


def _note(path: Path, ids: pa.Array) -> None:
    """With a hash that no row has, so that the data's own row, if it has one, replaces it."""
    table = pq.read_table(path)
    others = table.filter(pa.compute.invert(pa.compute.is_in(table[_KEY], ids)))
    count = len(ids)
    more = {_KEY: ids, "hash": pa.array([0] * count, pa.uint64()), "gone": [False] * count}
    added = pa.table(more).cast(table.schema)
    with atomic_file(path) as draft:
        pq.write_table(pa.concat_tables([others, added]), draft)
