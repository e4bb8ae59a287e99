"""Which rows of an offline table are the latest of their entity, and which changed since."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.config import EVENT_TIME
from recommender.files import atomic_file

_MEMORY = "1GB"  # beyond it DuckDB works on disk
# A hash tells nothing to another version of DuckDB, nor of other columns.
HASHED_BY = f"duckdb {duckdb.__version__}"


class Changes(NamedTuple):
    """Against what was materialised before."""

    total: int  # entities
    places: "np.ndarray[Any, Any]"  # of rows to be written, rising; numbers of rows in the table
    gone: list[str]  # entities that are no longer there; and have been so once before
    missing: int  # entities that are no longer there, for the first time


class LatestRows:
    """Of an offline table: one row an entity, the one with the latest event time.

    Only ids and places are kept in memory, some 100 bytes an entity.
    """

    def __init__(self, table: Path, join_key: str, features: list[str], scratch: Path) -> None:
        """`scratch` is a folder for what does not fit into memory."""
        self._table, self._join_key = Path(table), join_key
        self._columns = [join_key, EVENT_TIME, *features]
        self._file = pq.ParquetFile(table)
        id_ = _quote(self._join_key)  # so that erasing a user finds the column
        self._kept = f"(SELECT {id_} AS id, hash, gone FROM read_parquet($base))"
        self._connection = duckdb.connect(
            config={"memory_limit": _MEMORY, "temp_directory": str(scratch)}
        )
        self._find_latest()

    def _find_latest(self) -> None:
        values = ", ".join(_quote(name) for name in sorted(self._columns[1:]))
        source = "read_parquet($path, file_row_number = true)"
        self._connection.execute(
            "CREATE TABLE latest AS SELECT "
            f"{_quote(self._join_key)} AS id, "
            f"max_by(file_row_number, (epoch_us({EVENT_TIME}), file_row_number)) AS place "
            f"FROM {source} GROUP BY id",
            {"path": str(self._table)},
        )
        self._connection.execute(
            f"CREATE TABLE rows AS SELECT id, place, hash({values}) AS hash "
            f"FROM {source} JOIN latest ON place = file_row_number",
            {"path": str(self._table)},
        )

    def __enter__(self) -> "LatestRows":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._file.close()

    def changes(self, base: Path | None) -> Changes:
        """What to do, if the store has what `keep` wrote to `base`; None: nothing is known."""
        (total,) = self._one("SELECT count(*) FROM rows")
        if base is None:
            return Changes(total, self._places("SELECT place FROM rows ORDER BY place"), [], 0)
        old = self._kept
        given = {"base": str(base)}
        places = self._places(
            f"SELECT place FROM rows ANTI JOIN (SELECT * FROM {old} WHERE NOT gone) AS old "
            "USING (id, hash) ORDER BY place",
            given,
        )
        gone = self._connection.execute(
            f"SELECT id FROM {old} ANTI JOIN rows USING (id) WHERE gone ORDER BY id", given
        ).fetchall()
        (missing,) = self._one(
            f"SELECT count(*) FROM {old} ANTI JOIN rows USING (id) WHERE NOT gone", given
        )
        return Changes(total, places, [entity for (entity,) in gone], missing)

    def missing(self, base: Path) -> list[str]:
        """Entities that `base` has and the table has not, sorted."""
        found = self._connection.execute(
            f"SELECT id FROM {self._kept} ANTI JOIN rows USING (id) ORDER BY id",
            {"base": str(base)},
        ).fetchall()
        return [entity for (entity,) in found]

    def not_here(self, ids: Iterable[str]) -> list[str]:
        """Which of these ids the table does not have."""
        found = self._of(ids, "SELECT id FROM given ANTI JOIN rows USING (id)")
        return [entity for (entity,) in found]

    def here(self, ids: Iterable[str]) -> dict[str, int]:
        """And which it has, with the places of their rows."""
        return dict(self._of(ids, "SELECT id, place FROM given JOIN rows USING (id)"))

    def _of(self, ids: Iterable[str], query: str) -> list[Any]:
        given = pa.table({"id": pa.array(list(ids), pa.string())})
        self._connection.register("given", given)
        found = self._connection.execute(query).fetchall()
        self._connection.unregister("given")
        return found

    def keep(self, target: Path, base: Path | None, remember: bool) -> None:
        """Write what a store has now: an id and its row's hash each.

        Args:
            base: as of `changes`.
            remember: entities of `base` that are missing for the first time are kept in mind, as
                gone, until the next time.
        """
        query = f"SELECT id AS {_quote(self._join_key)}, hash, false AS gone FROM rows"
        if base is not None and remember:
            query += (
                f" UNION ALL SELECT id, hash, true FROM {self._kept} AS old ".replace(
                    "$base", _text(base)
                )
                + "ANTI JOIN rows USING (id) WHERE NOT gone"
            )
        with atomic_file(target) as draft:
            self._connection.execute(f"COPY ({query}) TO {_text(draft)} (FORMAT parquet)")

    def read(self, places: "np.ndarray[Any, Any]", size: int) -> Iterator[tuple[int, pa.Table]]:
        """The rows at `places`, in their order, at most `size` at a time: (last place, rows).

        No more than one row group is in memory.
        """
        start = 0
        for number in range(self._file.num_row_groups):
            end = start + self._file.metadata.row_group(number).num_rows
            inside = places[np.searchsorted(places, start) : np.searchsorted(places, end)]
            if len(inside):
                group = self._file.read_row_group(number, columns=self._columns)
                for first in range(0, len(inside), size):
                    part = inside[first : first + size]
                    yield int(part[-1]), group.take(pa.array(part - start))
            start = end

    def _places(self, query: str, given: dict[str, str] | None = None) -> Any:
        return self._connection.execute(query, given or {}).fetchnumpy()["place"]

    def _one(self, query: str, given: dict[str, str] | None = None) -> Any:
        (row,) = self._connection.execute(query, given or {}).fetchall()
        return row


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
