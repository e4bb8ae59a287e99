"""Feast's registry: opening it with messages that say what to do, and a copy of it as one file."""

import random
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from feature_repo.compatibility import (
    RegistryError,
    check_compatible,
    check_file,
    check_settings,
)
from feature_repo.store import import_feast, place_files, read_settings
from recommender.files import atomic_file

_RACES = ("IntegrityError", "ConcurrentVersionConflict", "UniqueViolation", "DuplicateTable")
_TRIES, _PAUSE_S = 6, 0.1


def make_config(raw: dict[str, Any], place: str, repository: Path | None = None) -> Any:
    """feast.RepoConfig of settings whose variables are filled in; nothing is opened.

    Args:
        raw: content of a feature_store.yaml, after `place_files`.
        place: the file that it is from, for messages.
        repository: its folder, for the offline store.

    Raises:
        RegistryError: saying what is wrong with the settings.
    """
    check_settings(raw, place)
    import_feast()
    from feast import RepoConfig

    try:
        return RepoConfig(**raw, **({"repo_path": repository} if repository else {}))
    except Exception as error:  # pydantic's, and Feast's own
        raise RegistryError(f"'{place}': Feast does not take it: {_first(error)}") from error


def make_store(raw: dict[str, Any], place: str, repository: Path | None = None) -> Any:
    """feast.FeatureStore of settings as for `make_config`.

    Raises:
        RegistryError: saying what is wrong with the settings or the registry, and what to do.
    """
    config = make_config(raw, place, repository)
    path = str(raw["registry"].get("path", ""))
    if path and "://" not in path:
        check_file(Path(path))
    from feast import FeatureStore

    try:
        store = FeatureStore(config=config)
        _ = store.registry  # Feast opens it at the first use
        return store
    except Exception as error:  # of the registry's own library too
        raise RegistryError(
            f"'{place}': its registry cannot be opened ({type(error).__name__}: {_first(error)}): "
            f"{_what_to_do(error)}"
        ) from error


def find_service(store: Any, name: str, place: str) -> Any:
    """The FeatureService `name`.

    Raises:
        RegistryError: there is none; it says which there are.
    """
    from feast.errors import FeastObjectNotFoundException

    try:
        return store.get_feature_service(name)
    except FeastObjectNotFoundException as error:
        known = [each.name for each in store.list_feature_services()]
        listed = ", ".join(known[-5:]) + (f" and {len(known) - 5} older" if len(known) > 5 else "")
        raise RegistryError(
            f"feature store '{place}' has no FeatureService '{name}'; it has {listed or 'none'}: "
            "materialise the features of this model version into it (`kuberec run CONFIG` does)"
        ) from error


def register(store: Any, objects: Sequence[Any], place: str) -> None:
    """Apply Feast's objects to a store's registry, beside others who do so now.

    A registry in a database keeps each object by itself, so nobody's is lost; but of two who
    register a view for the first time, or make its table, Feast 0.67 fails one. Its second try
    finds what is there.

    Raises:
        RegistryError: the registry has what ours would replace (`check_compatible`), or fails.
    """
    check_compatible(store, place)
    for attempt in range(_TRIES):
        try:
            # Anew each time: after a failure its connections are not to be used again.
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "On demand feature view is an experimental")
                type(store)(config=store.config).apply(list(objects))
            store.refresh_registry()
            return
        except Exception as error:  # of the registry's own library, or of the online store's
            if type(error).__name__ not in _RACES or attempt == _TRIES - 1:
                raise RegistryError(
                    f"'{place}': its registry does not take our definitions "
                    f"({type(error).__name__}: {_first(error)}): {_what_to_do(error)}"
                ) from error
        time.sleep(random.uniform(0, _PAUSE_S * 2**attempt))


def registered_versions(settings: Path, folder: Path | None = None) -> list[str]:
    """Model versions that the registry of a feature_store.yaml has a FeatureService for."""
    from feature_repo.services import VERSION_TAG

    raw = read_settings(settings, folder)
    place_files(raw, settings.parent)
    store = make_store(raw, str(settings), settings.parent)
    return [
        service.tags[VERSION_TAG]
        for service in store.list_feature_services()
        if VERSION_TAG in service.tags
    ]


def write_snapshot(store: Any, target: Path) -> None:
    """All that a registry says, as the one file that is published with a model version.

    So pods need no database to find their features, and a version keeps the definitions that it
    was rolled out with. On-demand views are left out: their code is not for pods.
    """
    from feast.infra.registry.registry import REGISTRY_SCHEMA_VERSION
    from feast.protos.feast.core.Registry_pb2 import Registry

    registry = Registry()
    registry.CopyFrom(store.registry.proto())
    registry.registry_schema_version = REGISTRY_SCHEMA_VERSION
    del registry.on_demand_feature_views[:]
    with atomic_file(target) as draft:
        draft.write_bytes(registry.SerializeToString(deterministic=True))


def _first(error: Exception) -> str:
    """The first lines that say something; SQLAlchemy's and psycopg's errors have many."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return "; ".join(line.strip() for line in lines[:3]) or "no reason given"


def _what_to_do(error: Exception) -> str:
    kind = type(error).__name__
    if kind == "OperationalError":
        return "check that the database answers from here, and PGHOST, PGUSER and PGPASSWORD"
    if kind in ("ProgrammingError", "FeastRegistrySchemaError"):
        return (
            "its tables are not those of this Feast: a newer one made them, or none did yet; use "
            "the same Feast everywhere, or run `feast apply` once with the rights to make tables"
        )
    return "check `registry` in it"
