"""What a feature store holds: per view its rows, how far it is behind, who owns and reads it."""

import json
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feature_repo.facts import COVERED_TAG, LENGTH_TAG, read_facts
from feature_repo.services import VERSION_TAG
from feature_repo.status.census import take_census
from feature_repo.store import (
    EMBEDDED_SETTINGS,
    open_store,
    own_settings,
    registry_place,
    store_folder,
)
from feature_repo.stores.layout import from_us, to_us
from recommender.errors import KuberecError

Tell = Callable[[str], None]


def read_status(home: Path, exact: bool = False, tell: Tell | None = None) -> dict[str, Any]:
    """Of the store that FEAST_FS_YAML_FILE_PATH names, else of the state home's.

    Args:
        home: the state home; its offline tables say what is still to be materialised.
        exact: count every row of a large Redis, where a sample is taken otherwise.
        tell: what is being done, for people who wait.

    Returns:
        JSON. Times are ISO 8601 in UTC, ages and lags seconds, null where nothing is known:
        {"now", "environment": {"settings", "project", "online": {"type", "where"},
        "registry": {"type", "where"}},
        "views": [{"name", "kind": "view" | "on demand", "description", "owner", "entity", "rows",
        "rows_exact", "newest_event", "lag_s", "covered_until", "offline_until", "behind_s",
        "history_length", "materialized_at", "materialized_rows", "under_way_rows" (of a
        materialisation that has not ended, or was killed), "services", "versions"}]}

    Raises:
        StoreDown: the online store does not answer.
        KuberecError: there is no store yet, or its registry cannot be opened.
    """
    folder = store_folder(home)
    settings = own_settings()
    if settings is None and not (folder / "registry.db").is_file():
        raise KuberecError(
            f"no feature store in '{folder}': run a pipeline first (`kuberec run CONFIG`), set "
            "KUBEREC_HOME to the state folder of one, or FEAST_FS_YAML_FILE_PATH to a "
            "feature_store.yaml"
        )
    tell = tell or (lambda message: None)
    tell("opening the registry")
    store = open_store(folder)
    now = datetime.now(UTC)
    services = store.list_feature_services()
    views = [
        _view(store, view, folder / "offline", now, exact, tell)
        for view in sorted(store.list_batch_feature_views(), key=lambda each: each.name)
    ]
    views += [_on_demand(view) for view in store.list_on_demand_feature_views()]
    for view in views:
        readers = [
            service
            for service in services
            if view["name"] in (each.name for each in service.feature_view_projections)
        ]
        view["services"] = [service.name for service in readers]
        found = [service.tags.get(VERSION_TAG) for service in readers]
        view["versions"] = [version for version in found if version]
    place = registry_place(settings or EMBEDDED_SETTINGS, folder)
    return {
        "now": _iso(now),
        "environment": {
            "settings": str(settings or EMBEDDED_SETTINGS),
            "project": store.config.project,
            "online": {
                "type": str(store.config.online_store.type),
                "where": _online_place(store.config),
            },
            "registry": {
                "type": str(store.config.registry.registry_type),
                "where": _without_password(str(place)),
            },
        },
        "views": views,
    }


def _view(
    store: Any, view: Any, offline: Path, now: datetime, exact: bool, tell: Tell
) -> dict[str, Any]:
    tell(f"counting rows of {view.name}")
    census = take_census(
        store, view.name, exact, lambda keys: tell(f"{view.name}: {keys:,} keys looked at")
    )
    covered_us = census.mark.get(COVERED_TAG) or view.tags.get(COVERED_TAG)
    covered = from_us(int(covered_us)) if covered_us else None
    offline_us = read_facts(offline).covered_until_us
    offline_until = from_us(offline_us) if offline_us else None
    kept = _kept(offline.parent, view.name) | census.mark
    at = kept.get("at") or _last_interval(view)
    return {
        "name": view.name,
        "kind": "view",
        "description": view.description,
        "owner": view.owner,
        "entity": ", ".join(view.entities),
        "rows": census.rows,
        "rows_exact": census.exact,
        "newest_event": _iso(census.newest),
        "lag_s": (now - census.newest).total_seconds() if census.newest else None,
        "covered_until": _iso(covered),
        "offline_until": _iso(offline_until),
        "behind_s": (to_us(offline_until) - to_us(covered)) / 1e6
        if covered and offline_until
        else None,
        "history_length": int(view.tags[LENGTH_TAG]) if LENGTH_TAG in view.tags else None,
        "materialized_at": at if isinstance(at, str) else _iso(at),
        "materialized_rows": kept.get("rows"),
        "under_way_rows": _under_way(census.mark),
    }


def _under_way(mark: Mapping[str, Any]) -> int | None:
    """Rows that a materialisation has written which has not ended, or was killed."""
    running = mark.get("running")
    return int(running.get("written") or 0) if isinstance(running, Mapping) else None


def _on_demand(view: Any) -> dict[str, Any]:
    return {
        "name": view.name,
        "kind": "on demand",
        "description": view.description,
        "owner": view.owner,
        "entity": "",
        **dict.fromkeys(
            (
                *("rows", "rows_exact", "newest_event", "lag_s", "covered_until", "offline_until"),
                *("behind_s", "history_length", "materialized_at", "materialized_rows"),
                "under_way_rows",
            )
        ),
    }


def _kept(folder: Path, view: str) -> dict[str, Any]:
    """What materialisation has noted in the state home."""
    path = folder / "materialized.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).get(view, {}))
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _last_interval(view: Any) -> datetime | None:
    """When Feast last noted a materialisation in the registry."""
    moment = view.last_updated_timestamp if view.materialization_intervals else None
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else None


def _online_place(config: Any) -> str:
    online = config.online_store
    if online.type == "sqlite":
        return str(online.path)
    if online.type == "redis":
        parts = str(online.connection_string).split(",")
        return ",".join(part for part in parts if "=" not in part)
    return f"{online.host}:{online.port}/{online.database}"


def _without_password(place: str) -> str:
    if place == "postgresql+psycopg://":
        host, name = os.environ.get("PGHOST", "localhost"), os.environ.get("PGDATABASE", "")
        return f"postgresql://{host}/{name}"
    return re.sub(r"//[^/@]*@", "//", place)
