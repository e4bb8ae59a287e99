"""Of which source the users and events of a feature store are, as live events need to know it.

It lies in offline/offline.json as `source`, so that what writes into the online store later treats
ids and events as ingestion did: pseudonyms, filters, limits of time.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feature_repo.facts import ABOUT
from recommender.files import read_json

KEY = "source"


def origin_of(snapshot: Path) -> dict[str, Any]:
    """Of a snapshot folder: what `origin` says, and the id of the key of its pseudonyms."""
    path = Path(snapshot) / "snapshot.json"
    said = read_json(path) if path.is_file() else {}
    return origin(said["source"], said.get("user_key")) if "source" in said else {}


def origin(source: Mapping[str, Any], user_key: str | None) -> dict[str, Any]:
    """The part of a run's `source` section, as JSON, that events which come later need.

    Args:
        user_key: id of the key that users' pseudonyms were made with; None: there are none.
    """
    events, cleaning = source.get("events", {}), source.get("cleaning", {})
    privacy = source.get("privacy", {})
    return {
        "name": source["name"],
        "events": {key: events.get(key) for key in ("columns", "filters", "event_type")},
        "cleaning": {key: cleaning.get(key) for key in ("earliest", "latest")},
        "privacy": {key: privacy.get(key) for key in ("user_key_env", "retention_days")},
        "user_key": user_key,
    }


def read_origin(offline: Path) -> dict[str, Any] | None:
    """What a folder of offline tables says; None where it was written without."""
    path = Path(offline) / ABOUT
    found = read_json(path).get(KEY) if path.is_file() else None
    return found or None
