"""The online store: bringing it up to date, and reading it.

SQLite's store keeps what it is not told to drop, and writes whatever comes last. So each
materialisation fills a new database and puts it, in one transaction, in place of the old content:
no user or item of older data stays, readers see all of the old or all of the new.

Redis, as on a cluster, is shared and read at all times, also by versions that were trained on older
data. It is filled in place, row by row, each row at once; it compares event times, so that a row
of older data never replaces a newer one, nor a live event. What follows:
- A user who is no longer in the data keeps the last history. That is what a canary beside an older
  version needs, and what freshness limits at serving are for; their ids are raw item ids, of which
  a version skips those that it does not know. Items that are gone are never asked for: a version
  answers from its own catalogue. `key_ttl_seconds` of the online store lets both expire.
- To forget a user, delete the key (operators' guide): data without that user does not bring it
  back.
- A row that is corrected, but has the event time of the row in store, is not written: shorter
  histories (`features.history_length`) or repaired events show with a user's next event. To have
  them at once, change `project` in feature_store.yaml, or empty the store, and materialise again.
- Killed half-way it holds new rows and old ones, each whole; the registry, replaced last, does not
  know the new version yet. Running it again goes on.
"""

import contextlib
import io
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.config import EVENT_TIME
from feature_repo.store import (
    open_store,
    own_settings,
    registry_file,
    release_duckdb,
    service_name,
    store_folder,
    versions,
)
from recommender.errors import KuberecError
from recommender.files import atomic_directory, ensure_writable, write_json

Progress = Callable[[int, int, str], None]
_STEPS = 4


def materialize(
    windows_dir: Path, home: Path, version: str, progress: Progress | None = None
) -> dict[str, Any]:
    """Make a home's feature store that of `windows_dir`, with a FeatureService for `version`.

    Running it again changes nothing; a kill leaves the store readable, as before or as after. With
    FEAST_FS_YAML_FILE_PATH set, rows go straight into the online store that it names.

    Args:
        windows_dir: of feature_repo.build.
        home: the state folder; its feature_store/ is made if need be.
        version: a model version id.

    Returns:
        {"service": name, "rows": {view: rows online}, "feature_store": folder}.
    """
    tell = progress or (lambda done, total, message: None)
    folder = ensure_writable(store_folder(home))
    shared = own_settings() is not None
    registry = registry_file(home)
    ensure_writable(registry.parent)
    tell(0, _STEPS, "offline tables")
    with atomic_directory(folder / "offline") as offline:
        shutil.copytree(Path(windows_dir) / "offline", offline, dirs_exist_ok=True)
    with tempfile.TemporaryDirectory(dir=registry.parent, prefix=".draft-") as name:
        draft = Path(name)
        if registry.is_file():
            shutil.copyfile(registry, draft / "registry.db")
        tell(1, _STEPS, "apply")
        rows = _fill(draft, folder / "offline", version, tell)
        tell(3, _STEPS, "switch")
        # What is only added comes first, and the name that makes readers look comes last.
        (draft / "registry.db").replace(registry)
        if not shared:
            _replace_content(draft / "online.db", folder / "online.db")
    known = [other for other in versions(folder) if other != version]
    write_json(folder / "versions.json", [*known, version])
    tell(_STEPS, _STEPS, "")
    return {"service": service_name(version), "rows": rows, "feature_store": str(folder)}


def _fill(draft: Path, offline: Path, version: str, tell: Progress) -> dict[str, int]:
    """Apply and materialise into the store of the folder `draft`; rows of each view."""
    store = open_store(draft, registry=draft / "registry.db")
    from feature_repo.entities import item, user
    from feature_repo.services import recommend_service
    from feature_repo.views import item_features, user_history

    views = [user_history(offline), item_features(offline)]
    store.apply([user, item, *views, recommend_service(version, views[0])])
    tell(2, _STEPS, "materialise")
    times = pq.read_table(offline / "user_history.parquet", columns=[EVENT_TIME])[EVENT_TIME]
    bounds = pc.min_max(times).as_py()
    # Feast compares in the machine's time zone here, so the range is wider than any zone.
    margin = timedelta(days=2)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            store.materialize(bounds["min"] - margin, bounds["max"] + margin)
    except Exception as error:
        settings = own_settings()
        if settings is None:
            raise
        raise KuberecError(  # of the store's own library
            f"the online store of '{settings}' was not filled ({type(error).__name__}: {error}): "
            "check that it answers from here and that its connection string and password are right"
        ) from error
    release_duckdb()
    keys = {"user_history": "user_id", "item_features": "item_id"}
    return {
        name: pc.count_distinct(
            pq.read_table(offline / f"{name}.parquet", columns=[key])[key]
        ).as_py()
        for name, key in keys.items()
    }


def _replace_content(source: Path, target: Path) -> None:
    """Everything of the database `source` in place of what `target` holds, as one transaction.

    Who reads meanwhile reads on: with a write-ahead log nobody waits for the writer.
    """
    with (
        contextlib.closing(sqlite3.connect(source)) as new,
        contextlib.closing(sqlite3.connect(target, timeout=30)) as old,
    ):
        old.execute("PRAGMA journal_mode=WAL").fetchall()
        new.backup(old)


def online_histories(home: Path, user_ids: Iterable[str]) -> dict[str, list[str]]:
    """Each user's latest history, raw item ids, oldest first; empty for an unknown user.

    It is read by the FeatureService of the newest model version.

    Raises:
        KuberecError: nothing has been materialised in `home`.
    """
    wanted = list(dict.fromkeys(user_ids))
    if not wanted:
        return {}
    store, version = _open_online(home)
    service = store.get_feature_service(service_name(version))
    answer = store.get_online_features(service, [{"user_id": user} for user in wanted]).to_dict()
    found = zip(answer["user_id"], answer["history"], strict=True)
    return {user: list(history or []) for user, history in found}


def _open_online(home: Path) -> tuple[Any, str]:
    folder = store_folder(home)
    known = versions(folder)
    if not known:
        raise KuberecError(
            f"no feature store in '{folder}': run a pipeline first (`kuberec run CONFIG`), or set "
            "KUBEREC_HOME to the state folder of one"
        )
    return open_store(folder), known[-1]
