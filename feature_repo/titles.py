"""Titles of items, for people: from the offline table that the online store was filled from.

Not through Feast, whose import alone takes longer than a whole answer of the endpoint.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from feature_repo.store import store_folder
from recommender.schema import ITEM_ID, TITLE


def item_titles(home: Path, item_ids: Iterable[str]) -> dict[str, str]:
    """Titles of the items that are known; none where nothing has been materialised in `home`."""
    wanted = list(dict.fromkeys(item_ids))
    path = store_folder(home) / "offline" / "item_features.parquet"
    if not wanted or not path.is_file():
        return {}
    table = pq.read_table(path, columns=[ITEM_ID, TITLE], filters=[(ITEM_ID, "in", wanted)])
    found = zip(table[ITEM_ID].to_pylist(), table[TITLE].to_pylist(), strict=True)
    return {item: title for item, title in found if title is not None}
