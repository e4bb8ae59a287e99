"""Titles of items, for people: from the offline table that the online store was filled from.

Not through Feast, whose import alone takes longer than a whole answer of the endpoint; nor by
pyarrow's datasets, which load pandas.
"""

from collections.abc import Iterable
from pathlib import Path

from feature_repo.store import store_folder
from recommender.schema import ITEM_ID, TITLE


def item_titles(home: Path, item_ids: Iterable[str]) -> dict[str, str]:
    """Titles of the items that are known; none where nothing has been materialised in `home`."""
    wanted = set(item_ids)
    path = store_folder(home) / "offline" / "item_features.parquet"
    if not wanted or not path.is_file():
        return {}
    from pyarrow.parquet import ParquetFile

    titles = {}
    with ParquetFile(path) as table:
        for batch in table.iter_batches(columns=[ITEM_ID, TITLE]):
            for item, title in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if item in wanted and title is not None:
                    titles[item] = title
    return titles
