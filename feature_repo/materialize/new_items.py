"""Items that joined a model version between two runs, in the feature store: offline and online.

The next run's tables take the place of all that; until then their titles are found, and whoever
reads item features finds theirs.
"""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.config import EVENT_TIME
from feature_repo.store import store_folder
from recommender import schema
from recommender.files import atomic_file

_VIEW = "item_features"
_DESCRIBED = [schema.ITEM_ID, schema.TITLE, schema.CATEGORIES]


def add_items(home: Path, items: pa.Table, vectors: pa.Table) -> int:
    """Add rows to item_features of a home's feature store; how many were not there.

    Running it again changes nothing. A home without that table has nothing to add to: 0.

    Args:
        items: item_id, title, categories.
        vectors: item_id, vector, of the same items.
    """
    path = store_folder(home) / "offline" / f"{_VIEW}.parquet"
    if not path.is_file():
        return 0
    table = pq.read_table(path)
    known = set(table[schema.ITEM_ID].to_pylist())
    names = (schema.ITEM_ID, "vector")
    vector = dict(zip(*(vectors[name].to_pylist() for name in names), strict=True))
    now = datetime.now(UTC)
    rows = [
        row | {"vector": vector[row[schema.ITEM_ID]], "popularity": 0, EVENT_TIME: now}
        for row in items.select(_DESCRIBED).to_pylist()
        if row[schema.ITEM_ID] not in known
    ]
    if rows:
        from feature_repo.materialize.home import materialize_items

        more = pa.Table.from_pylist(rows, table.schema)
        materialize_items(home, more)
        with atomic_file(path) as draft:  # last: it says who is there already
            pq.write_table(pa.concat_tables([table, more]), draft, compression="zstd")
    return len(rows)
