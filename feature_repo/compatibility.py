"""Whether a registry, and a feature_store.yaml, are what this Kuberec can work with.

Feast opens whatever it can parse. A registry of a newer Feast or Kuberec, or one whose users have
numbers for ids, it reads without a word, and no user is ever found. Here all of that is refused.
"""

import re
from pathlib import Path
from typing import Any

from feature_repo.facts import FORMAT, FORMAT_TAG
from recommender.errors import KuberecError

_KEYS = {"user": "user_id", "item": "item_id"}  # entity: join key
_VIEWS = {"user_history": "user", "item_features": "item"}
_KINDS = ("sqlite", "redis", "postgres")


class RegistryError(KuberecError):
    """A registry, or settings of a feature store, that cannot be worked with."""


def check_settings(raw: dict[str, Any], place: str) -> None:
    """Raise RegistryError if a variable of a feature_store.yaml is not set, or its store unknown.

    Args:
        raw: its content, variables filled in.
        place: the file, for messages.
    """
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
