"""A home's online store, brought up to date.

Rows go from the offline tables straight into the store, as Feast itself would have written them
(feature_repo.materialize). Only those are written that changed since this state home wrote them
last; of a store that is new, was emptied or is another's, all. A user's row is whole at any time,
while rows change one after the other. Live events that came in after the data was taken stay on top
of it. Killed, or the store down half-way: the next run goes on where the store says it came to. The
registry, replaced last, makes a new model version known only when all its rows are in.

The embedded store is this home's alone, and becomes what the data says: who is gone from the data
is gone, also if it is older data than before.

Redis or PostgreSQL, as on a cluster, is shared and read at all times, also by versions that were
trained on older data, and pipelines may end in any order. What follows:
- Older data than the store's (`covered_until_us`, its last event) replaces nothing. It adds users
  and items that the store does not have, for the version that was trained on them.
- A user who is gone from the data keeps the last history until the next materialisation of newer
  data: a canary beside an older version needs it, whose data has that user. Then it is deleted, but
  for live events. Which users were there, the state home knows; from another home's, or when that
  is lost, nobody is deleted. `key_ttl_seconds` of a Redis online store lets such rows expire.
- To forget a user at once, `kuberec erase-user`; data without that user does not bring it back.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.config import EVENT_TIME
from feature_repo.store import (
    EMBEDDED_SETTINGS,
    nothing_there,
    open_store,
    own_settings,
    registry_file,
    registry_place,
    release_duckdb,
    service_name,
    store_folder,
    versions,
)
from recommender.errors import KuberecError
from recommender.files import atomic_directory, ensure_writable, write_json

Progress = Callable[[int, int, str], None]
HISTORY_VIEW, ITEM_VIEW = "user_history", "item_features"
_TELL_S = 0.5  # between two lines of progress


def materialize(
    windows_dir: Path, home: Path, version: str, progress: Progress | None = None
) -> dict[str, Any]:
    """Make a home's feature store that of `windows_dir`, with a FeatureService for `version`.

    Running it again changes nothing; a kill leaves the store readable. With FEAST_FS_YAML_FILE_PATH
    set, rows go into the online store that it names.

    Args:
        windows_dir: of feature_repo.offline.build.
        home: the state folder; its feature_store/ is made if need be.
        version: a model version id.
        progress: called with rows done, rows in all, and what they are of.

    Returns:
        {"service": name, "rows": {view: rows online}, "feature_store": folder, "views": {view:
        {"mode", "written", "deleted", "live", "seconds", "rows_per_s"}}}, of
        feature_repo.materialize.run.Outcome.

    Raises:
        StoreDown: the online store does not answer; how far it came. Run it again.
    """
    tell = progress or (lambda done, total, message: None)
    folder = ensure_writable(store_folder(home))
    offline = folder / "offline"
    tell(0, 0, "offline tables")
    with atomic_directory(offline) as draft:
        shutil.copytree(Path(windows_dir) / "offline", draft, dirs_exist_ok=True)
    with _registering(home, tell) as store:
        from feature_repo.registered import definitions
        from feature_repo.registry import register
        from feature_repo.services import recommend_service

        tell(0, 0, "apply")
        defined = definitions(offline)
        register(store, list(defined), _place())
        outcomes = {
            view: _bring_up(store, view, offline, tell) for view in (HISTORY_VIEW, ITEM_VIEW)
        }
        # Who looks for the version finds its rows in place.
        service = recommend_service(version, defined.history)
        register(store, [defined.user, defined.history, service], _place())
        for view, outcome in outcomes.items():  # last: what is registered has no such notes
            if outcome.mode not in ("unchanged", "older"):
                _note_interval(store, view, offline / f"{view}.parquet")
    _note_version(folder, version)
    return {
        "service": service_name(version),
        "rows": {view: outcome.rows for view, outcome in outcomes.items()},
        "feature_store": str(folder),
        "views": {
            view: outcome._asdict() | {"rows_per_s": round(outcome.rows_per_s)}
            for view, outcome in outcomes.items()
        },
    }


def register_version(home: Path, version: str) -> None:
    """A FeatureService for one more model version, over the tables as they are; no row is written.

    Raises:
        KuberecError: nothing has been materialised in `home`.
    """
    folder = store_folder(home)
    if not versions(folder):
        raise nothing_there(folder)
    with _registering(home, lambda done, total, message: None) as store:
        from feature_repo.registered import definitions
        from feature_repo.registry import register
        from feature_repo.services import recommend_service

        defined = definitions(folder / "offline")
        service = recommend_service(version, defined.history)
        register(store, [defined.user, defined.history, service], _place())
    _note_version(folder, version)


def materialize_items(home: Path, items: pa.Table) -> int:
    """Put rows of `item_features` online that joined after the last materialisation; how many.

    The next materialisation knows them: it replaces them, or drops them with what is gone.

    Args:
        items: item_id, title, categories, popularity, vector and event_time, each item once.
    """
    from feature_repo.materialize.items import write_items

    folder = store_folder(home)
    return write_items(open_store(folder), folder, items)


@contextlib.contextmanager
def _registering(home: Path, tell: Progress) -> Iterator[Any]:
    """A feast.FeatureStore to apply to; a registry that is a file is replaced at the end.

    What is in a database is changed at once, and copied to a file at the end, for pods.
    """
    folder = ensure_writable(store_folder(home))
    registry = registry_file(home)
    ensure_writable(registry.parent)
    place = registry_place(own_settings() or EMBEDDED_SETTINGS, folder)
    if isinstance(place, str):
        from feature_repo.registry import write_snapshot

        store = open_store(folder)
        yield store
        tell(0, 0, "switch")
        write_snapshot(store, registry)
        return
    with tempfile.TemporaryDirectory(dir=registry.parent, prefix=".draft-") as name:
        draft = Path(name) / "registry.db"
        if registry.is_file():
            shutil.copyfile(registry, draft)
        yield open_store(folder, registry=draft)
        tell(0, 0, "switch")
        draft.replace(registry)


def _bring_up(store: Any, view: str, offline: Path, tell: Progress) -> Any:
    """The Outcome of one view."""
    from feature_repo.facts import read_facts
    from feature_repo.materialize.run import ViewRun
    from feature_repo.materialize.state import Source
    from feature_repo.stores.layout import ViewLayout
    from feature_repo.stores.open import open_rows

    facts = read_facts(offline)
    if facts.covered_until_us is None or facts.history_length is None:
        raise KuberecError(
            f"'{offline}' does not say what its tables cover (offline.json): build the features "
            "again (`kuberec run CONFIG`)"
        )
    table = offline / f"{view}.parquet"
    source = Source(view, table, facts.covered_until_us, facts.history_length)
    shared = own_settings() is not None
    said = 0.0

    def told(done: int, total: int) -> None:
        nonlocal said
        if done == total or time.monotonic() - said > _TELL_S:
            said = time.monotonic()
            tell(done, total, f"rows of {view}")

    with (
        contextlib.closing(open_rows(store, view)) as rows,
        tempfile.TemporaryDirectory(dir=offline.parent, prefix=".scratch-") as scratch,
    ):
        layout = ViewLayout(store, view)
        return ViewRun(rows, layout, source, offline.parent, shared).run(Path(scratch), told)


def _note_interval(store: Any, view: str, table: Path) -> None:
    """As Feast does, for `feast` and whoever asks the registry how new features are."""
    bounds = pc.min_max(pq.read_table(table, columns=[EVENT_TIME])[EVENT_TIME]).as_py()
    if bounds["min"] is None:
        return
    start, end = (bounds[name].astimezone(UTC) for name in ("min", "max"))
    found = store.registry.get_feature_view(view, store.project)
    store.registry.apply_materialization(found, store.project, start, end)
    release_duckdb()


def _note_version(folder: Path, version: str) -> None:
    known = [other for other in versions(folder) if other != version]
    write_json(folder / "versions.json", [*known, version])


def _place() -> str:
    return str(own_settings() or EMBEDDED_SETTINGS)
