"""What a snapshot says of items that users can be sliced by: categories, and a text's language."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from recommender import schema
from recommender.errors import KuberecError
from recommender.sequences import Vocabulary

LANGUAGE = "language"  # the column that ingestion writes with `source.cleaning.language`


@dataclass(frozen=True)
class Catalogue:
    """By item index; entry 0 is padding.

    Attributes:
        categories: as the source orders them; empty where an item has none.
        languages: ISO 639 codes, "" where unknown; None where nobody has told them.
    """

    categories: list[list[str]]
    languages: list[str] | None = None


def load_catalogue(
    items_dir: Path, vocabulary: Vocabulary, languages: dict[str, str] | None = None
) -> Catalogue:
    """Read items.parquet of a snapshot folder, in the vocabulary's order.

    Args:
        languages: by item id, instead of the column `language`.

    Raises:
        KuberecError: there is no items table, or it lacks a column.
    """
    path = schema.table_path(items_dir, "items")
    if not path.exists():
        raise KuberecError(f"'{items_dir}' has no items.parquet: give the folder of a snapshot")
    names = pq.read_schema(path).names if path.is_file() else pq.read_table(path).schema.names
    wanted = [schema.ITEM_ID, schema.CATEGORIES]
    if missing := set(wanted) - set(names):
        raise KuberecError(f"'{path}' lacks columns {sorted(missing)}: ingest the source again")
    told = LANGUAGE in names and languages is None
    table = pq.read_table(path, columns=[*wanted, *([LANGUAGE] if told else [])])
    rows = {row[schema.ITEM_ID]: row for row in table.to_pylist()}
    if told:
        languages = {item: row[LANGUAGE] or "" for item, row in rows.items()}
    return Catalogue(
        [
            [],
            *(
                list(rows[item][schema.CATEGORIES] or ()) if item in rows else []
                for item in vocabulary.items
            ),
        ],
        None if languages is None else ["", *(languages.get(i, "") for i in vocabulary.items)],
    )
