"""What the offline tables say about themselves; views carry it in their tags."""

from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from recommender.files import read_json

ABOUT = "offline.json"  # feature_repo.offline writes it
# Of the rows, and what they mean. A number above it is of a newer Kuberec.
FORMAT = 1
FORMAT_TAG, LENGTH_TAG, COVERED_TAG = "kuberec_format", "history_length", "covered_until_us"


class Facts(NamedTuple):
    """Of a folder of offline tables; None or nothing where it does not say."""

    owner: str
    history_length: int | None  # events
    covered_until_us: int | None  # of the newest event, microseconds since 1970
    vector_length: int  # of an item's text vector; 0: items have none

    def tags(self) -> dict[str, str]:
        """As Feast keeps them: text."""
        numbers = {LENGTH_TAG: self.history_length, COVERED_TAG: self.covered_until_us}
        known = {name: str(value) for name, value in numbers.items() if value is not None}
        return {FORMAT_TAG: str(FORMAT)} | known


def read_facts(offline: Path) -> Facts:
    """What there is in the folder; tables that are still to be written have no facts."""
    about = Path(offline) / ABOUT
    said = read_json(about) if about.is_file() else {}
    return Facts(
        owner=str(said.get("owner") or ""),
        history_length=said.get("history_length"),
        covered_until_us=said.get("covered_until_us"),
        vector_length=_vector_length(Path(offline) / "item_features.parquet"),
    )


def _vector_length(items: Path) -> int:
    """Of the first items: text vectors are all of one length, or all empty."""
    if not items.is_file():
        return 0
    with pq.ParquetFile(items) as table:
        for batch in table.iter_batches(batch_size=256, columns=["vector"]):
            lengths = {len(vector or ()) for vector in batch["vector"].to_pylist()}
            return lengths.pop() if len(lengths) == 1 else 0
    return 0
