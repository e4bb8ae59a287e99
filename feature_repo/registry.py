"""Feast's registry: opening it with messages that say what to do, and a copy of it as one file.

Feast opens whatever it can parse. A registry of a newer Feast or Kuberec, or one whose users have
numbers for ids, it reads without a word, and no user is ever found. Here all of that is refused.
"""

import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from feature_repo.facts import FORMAT, FORMAT_TAG
from feature_repo.store import import_feast, place_files, read_settings
from recommender.errors import KuberecError
from recommender.files import atomic_file

_KEYS = {"user": "user_id", "item": "item_id"}  # entity: join key
_VIEWS = {"user_history": "user", "item_features": "item"}
_KINDS = ("sqlite", "redis", "postgres")
_RACES = ("IntegrityError", "ConcurrentVersionConflict", "UniqueViolation", "DuplicateTable")
_TRIES, _PAUSE_S = 6, 0.1


class RegistryError(KuberecError):
    """A registry, or settings of a feature store, that cannot be worked with."""


def make_config(raw: dict[str, Any], place: str, repository: Path | None = None) -> Any:
    """feast.RepoConfig of settings whose variables are filled in; nothing is opened.

    Args:
        raw: content of a feature_store.yaml, after `place_files`.
        place: the file that it is from, for messages.
        repository: its folder, for the offline store.

    Raises:
        RegistryError: saying what is wrong with the settings.
    """
    _check_settings(raw, place)
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


def check_file(path: Path) -> None:
    """Raise RegistryError if the file is there, and is no registry that this Feast reads whole."""
    if not path.is_file():
        return
    from feast.infra.registry.registry import REGISTRY_SCHEMA_VERSION
    from feast.protos.feast.core.Registry_pb2 import Registry
    from google.protobuf.message import DecodeError

    registry = Registry()
    try:
        registry.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise RegistryError(
            f"'{path}' is no Feast registry, or a damaged one: delete it, and materialise the "
            "features again (`kuberec run CONFIG` does), or copy it again from where it came"
        ) from error
    found = registry.registry_schema_version or REGISTRY_SCHEMA_VERSION
    if found.isdecimal() and int(found) > int(REGISTRY_SCHEMA_VERSION):
        raise RegistryError(
            f"'{path}' has registry schema {found}, this Feast knows {REGISTRY_SCHEMA_VERSION}: a "
            "newer Feast wrote it; install that one here too, or materialise into another registry"
        )


def check_compatible(store: Any, place: str) -> None:
    """Raise RegistryError if the registry has users, items or views that are not as ours.

    To be asked before anything is registered: Feast would put our definition over one of somebody
    else's, whose rows would be found by nobody from then on.
    """
    entities = {each.name: each for each in store.list_entities()}
    for name, key in _KEYS.items():
        if name in entities:
            entity = entities[name]
            _check_entity(name, key, entity.join_key, entity.value_type.name, place)
    for view in store.list_feature_views():
        if view.name in _VIEWS:
            check_view(view, place)


def check_view(view: Any, place: str) -> None:
    """Raise RegistryError if a view of ours is keyed otherwise, or is of a newer Kuberec."""
    format_ = str(view.tags.get(FORMAT_TAG, FORMAT))
    if format_.isdecimal() and int(format_) > FORMAT:
        raise RegistryError(
            f"'{place}': rows of '{view.name}' have format {format_}, this Kuberec knows {FORMAT}: "
            "a newer one wrote them; use that one here too"
        )
    expected = _KEYS[_VIEWS.get(view.name, "user")]
    columns = {column.name: column.dtype.to_value_type().name for column in view.entity_columns}
    keys = list(view.join_keys)
    if keys != [expected]:
        raise RegistryError(
            f"'{place}': feature view '{view.name}' has the join keys {', '.join(keys) or 'none'}, "
            f"not {expected}: {_ANOTHER}"
        )
    _check_entity(f"of {view.name}", expected, keys[0], columns.get(keys[0], "STRING"), place)


_ANOTHER = (
    "another Feast repository registered it under this name; give ours a `project` of its own in "
    "feature_store.yaml, and materialise again"
)


def _check_entity(name: str, key: str, found: str, kind: str, place: str) -> None:
    if found != key:
        raise RegistryError(
            f"'{place}': entity '{name}' has the join key {found}, not {key}: {_ANOTHER}"
        )
    if kind != "STRING":
        raise RegistryError(
            f"'{place}': entity '{name}' has ids of type {kind}, ours are STRING, and no row would "
            f"be found: {_ANOTHER}"
        )


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


def _check_settings(raw: dict[str, Any], place: str) -> None:
    used = [raw.get(section) for section in ("registry", "online_store", "offline_store")]
    unset = sorted(set(re.findall(r"\$\{(\w+)\}", str(used))))
    if unset:
        raise RegistryError(
            f"'{place}' uses {', '.join(unset)}, not set here: set it, from a Secret if it is a "
            "password"
        )
    online = raw.get("online_store")
    kind = online.get("type", "sqlite") if isinstance(online, dict) else online or "sqlite"
    if kind not in _KINDS:
        raise RegistryError(
            f"'{place}': online_store.type is '{kind}'; allowed: {', '.join(_KINDS)}"
        )


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
