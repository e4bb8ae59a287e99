"""Opening a feature store to read its online side only, and only if all of it is there.

Feast creates a registry or a SQLite file that it does not find. Here a look changes nothing, and
finding nothing costs no import of Feast.
"""

from pathlib import Path
from typing import Any

from feature_repo.store import EMBEDDED_SETTINGS, place_files, read_settings
from recommender.errors import KuberecError

# What reading online has no use for, and may not have the packages of.
_NOT_NEEDED = ("offline_store", "batch_engine", "openlineage", "mlflow")


class StoreUnavailable(KuberecError):
    """A feature store that cannot be opened, or is no longer what was opened."""


def open_online(store: Path) -> Any:
    """feast.FeatureStore to read from online.

    Args:
        store: folder of the embedded store, or a feature_store.yaml file.

    Raises:
        StoreUnavailable: saying what is missing.
    """
    store = Path(store).absolute()
    raw = _read_settings(store)
    home = store if store.is_dir() else store.parent
    for file in place_files(raw, home):
        if not file.is_file():
            raise StoreUnavailable(
                f"no '{file.name}' in '{file.parent}': fill the feature store first "
                "(`kuberec run CONFIG` does), or name another one"
            )
    _look_only(raw)
    from feature_repo.registry import make_store

    try:
        return make_store(raw, str(store))
    except KuberecError as error:
        raise StoreUnavailable(f"feature store {error}") from error


def _look_only(raw: dict[str, Any]) -> None:
    """A registry in a database is read; its tables are not made, nor is anything written there."""
    if raw["registry"].get("registry_type") == "sql":
        raw["registry"] |= {"schema_mode": "verify"}


def online_file(config: Any) -> Path | None:
    """Where a SQLite online store has its content; None for other kinds."""
    if config.online_store.type != "sqlite":
        return None
    return Path(config.online_store.path)


def _read_settings(store: Path) -> dict[str, Any]:
    """feature_store.yaml with its variables filled in."""
    folder = store if store.is_dir() else None
    if folder is None and not store.is_file():
        raise StoreUnavailable(
            f"no feature store '{store}': neither a folder nor a feature_store.yaml; fill one "
            "first (`kuberec run CONFIG` does)"
        )
    try:
        raw = read_settings(EMBEDDED_SETTINGS if folder else store, folder)
    except KuberecError as error:
        raise StoreUnavailable(str(error)) from error
    return {key: value for key, value in raw.items() if key not in _NOT_NEEDED}
