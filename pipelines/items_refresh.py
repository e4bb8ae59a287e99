"""The work of `kuberec items refresh`: new items found, encoded, put into a version, rolled out."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from feature_repo.store import nothing_there, store_folder, versions
from ingestion.sources import ItemsSource, SourceConfig
from pipelines.items_source import items_of_file
from pipelines.items_version import Running, find_running
from pipelines.local import alone
from recommender import schema
from recommender.errors import KuberecError
from recommender.files import content_fingerprint, ensure_writable, fingerprint, read_json
from recommender.settings import TextConfig
from serving.version import MANIFEST, ModelVersion, VersionError, load_version

KEEP = 3  # refreshed versions in the state home; an endpoint has copies of its own
_SHOWN = 10
_SCRATCH = "refresh-"


class Options(NamedTuple):
    """What the command was asked for (pipelines/items.py)."""

    config: Path | None
    items: Path | None
    target: str
    boost: float | None
    max_new: int | None
    dry_run: bool
    rollout: bool


def refresh_items(
    home: Path, options: Options, overrides: list[str], console: Console, quiet: bool = False
) -> dict[str, Any]:
    """Do all of it; what was done.

    Returns:
        {"parent", "known", "read", "rejected" (reason: rows), "gone", "new" (ids), "titles" (of
        some), "version" and "directory" (None where none was made), "rollout" (None where there
        was none)}.

    Raises:
        KuberecError: nothing to refresh, no items, no feature store, a check that failed;
            RolloutStopped.
    """
    note = Console(stderr=True) if quiet else console

    def say(text: str) -> None:
        note.print(text, highlight=False, markup=False, soft_wrap=True)

    with alone(ensure_writable(home)):
        _sweep(home)
        tmp = ensure_writable(home / "tmp")
        with tempfile.TemporaryDirectory(dir=tmp, prefix=_SCRATCH) as scratch:
            work = Path(scratch)
            parent = work / "parent"
            running = find_running(options.target, home, options.config, overrides, parent)
            return _Refresh(home, options, running, work, say).run()


class _Refresh:
    def __init__(
        self,
        home: Path,
        options: Options,
        running: Running,
        work: Path,
        say: Callable[[str], None],
    ) -> None:
        self._home, self._options, self._running = home, options, running
        self._work, self._say = work, say
        self._parent = running.version
        self._sections = read_json(self._parent.directory / MANIFEST)["config"]

    def run(self) -> dict[str, Any]:
        from serving.refresh import known_items

        known = known_items(self._parent)
        self._say(f"model version {self._parent.version} knows {len(known):,} items")
        counts = self._read_items()
        items = pq.read_table(schema.table_path(self._work / "items", "items"))
        ids = items[schema.ITEM_ID].to_pylist()
        new = items.take(_places(ids, set(ids) - set(known)))
        found = {
            "parent": self._parent.version,
            "known": len(known),
            **counts,
            # A file may hold new items alone: what it lacks is not gone.
            "gone": 0 if self._options.items else len(set(known) - set(ids)),
            "new": new[schema.ITEM_ID].to_pylist(),
            "titles": new[schema.TITLE].to_pylist()[:_SHOWN],
            "version": None,
            "directory": None,
            "rollout": None,
        }
        if not len(new):
            return found
        self._check_number(len(new))
        if self._options.dry_run:
            return found
        store = store_folder(self._home)
        if not versions(store):
            raise nothing_there(store)  # before the work, not after it
        vectors = self._encode(new)
        version = self._make(vectors)
        self._put_online(new, vectors, version)
        found |= {"version": version.version, "directory": str(version.directory)}
        if self._options.rollout:
            found["rollout"] = self._running.roll_out(version.directory, self._say)
        return found

    def _read_items(self) -> dict[str, Any]:
        from ingestion.ingest import ingest_items
        from ingestion.reading.download import fetch

        source = self._running.source or SourceConfig.model_validate(self._sections["source"])
        if self._options.items is not None:
            items = items_of_file(source.items, self._options.items)
            source = source.model_copy(update={"items": items})
        else:
            source = fetch(source, self._home / "data", self._say)
        self._say(f"reading the items of {_where(source.items)}")
        counts = ingest_items(source, self._work / "items")
        return {"read": counts["read"], "rejected": counts["rejected"]}

    def _check_number(self, new: int) -> None:
        lineage = read_json(self._parent.directory / MANIFEST).get("items") or {}
        most = self._options.max_new or lineage.get("trained", new)
        if new > most:
            raise KuberecError(
                f"{new:,} items are new to model version {self._parent.version}; --max-new allows "
                f"{most:,}. If it is another catalogue, name the right one; if it has grown so "
                f"much, train on it (`kuberec run`), or allow it: --max-new {new}"
            )

    def _encode(self, new: pa.Table) -> Path:
        """item_vectors/ of the new items, by the version's own text settings."""
        from recommender.text import encode_items
        from serving.item_map import load_item_map

        load_item_map(self._parent, self._sections)  # before the work, not after it
        text = TextConfig.model_validate(self._sections["text"])
        if text.image_column and (
            text.image_column not in new.column_names
            or new[text.image_column].null_count == len(new)
        ):
            self._say(f"no new item has an image (text.image_column: {text.image_column})")
            text = text.model_copy(update={"image_column": None})
        snapshot, out = self._work / "new", self._work / "vectors"
        snapshot.mkdir()
        pq.write_table(new, schema.table_path(snapshot, "items"))
        cache = self._home / "cache" / "vectors"
        self._say(f"encoding the texts of {len(new):,} new items")
        made = encode_items(snapshot, text, cache, out, fitted_dir=self._parent.directory)
        self._say(f"encoded; {made['from_cache']:,} of them were known before")
        return out

    def _make(self, vectors: Path) -> ModelVersion:
        """The version, or the same one that a killed refresh has made already."""
        from serving.refresh import refresh_version

        folder = ensure_writable(self._home / "refreshed")
        content = [self._parent.version, content_fingerprint(vectors), self._options.boost]
        target = folder / fingerprint(content)[:12]
        try:
            version = load_version(target)
            self._say(f"model version {version.version} is made already")
        except VersionError:
            self._say("making the model version, and comparing it with the one that runs")
            version = refresh_version(
                target,
                self._parent,
                vectors,
                boost=self._options.boost,
                progress=lambda done, total, message: self._say(f"  {done}/{total} {message}"),
            )
        _prune(folder, version.directory)
        return version

    def _put_online(self, new: pa.Table, vectors: Path, version: ModelVersion) -> None:
        from feature_repo.materialize.home import register_version
        from feature_repo.materialize.new_items import add_items
        from recommender.text.vectors import VECTORS

        self._say("adding the items to the feature store, with the version's FeatureService")
        add_items(self._home, new, pq.read_table(vectors / VECTORS))
        register_version(self._home, version.version)


def _places(ids: list[str], wanted: Iterable[str]) -> pa.Array:
    chosen = set(wanted)
    return pa.array([place for place, item in enumerate(ids) if item in chosen], pa.int64())


def _where(items: ItemsSource) -> str:
    if items.path is None:
        return f"the {items.format} table"
    return items.path if isinstance(items.path, str) else ", ".join(items.path)


def _sweep(home: Path) -> None:
    """Drop what killed refreshes left; nobody else is at it while this one is alone."""
    left = [*(home / "tmp").glob(f"{_SCRATCH}*"), *(home / "refreshed").glob(f".{_SCRATCH}*")]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


def _prune(folder: Path, newest: Path) -> None:
    """All but the newest few; what is rolled out is copied from here."""
    others = [path for path in folder.iterdir() if path != newest and not path.name.startswith(".")]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEEP - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
