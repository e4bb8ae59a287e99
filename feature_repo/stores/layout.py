"""How Feast lays a view's rows out: names, keys and values as bytes."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from recommender.errors import KuberecError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STRING = 2  # Feast's ValueType
# Feast's SQL stores keep a text of these beside the bytes.
_WITH_TEXT = ("STRING", "INT32", "INT64", "FLOAT", "DOUBLE", "BOOL")


class ViewLayout:
    """Of one feature view with one join key of type string."""

    def __init__(self, store: Any, view: str) -> None:
        """From a feast.FeatureStore.

        Raises:
            KuberecError: its registry has no such view, or not one that is kept here.
        """
        from feast.errors import FeatureViewNotFoundException
        from feast.infra.online_stores.helpers import compute_table_id, compute_versioned_name

        try:
            table = store.get_feature_view(view)
        except FeatureViewNotFoundException as error:
            raise KuberecError(
                f"the feature store's registry has no view '{view}': materialise features first "
                "(`kuberec run CONFIG`)"
            ) from error
        if len(table.join_keys) != 1:
            raise KuberecError(f"view '{view}' has join keys {table.join_keys}: one is allowed")
        config = store.config
        versioned = config.registry.enable_online_feature_view_versioning
        self.view = view
        self.project = str(config.project)
        self.name = str(compute_versioned_name(table, versioned))
        self.table = str(compute_table_id(self.project, table, versioned))
        self.features = [str(field.name) for field in table.features]
        self.types = {field.name: field.dtype.to_value_type().name for field in table.features}
        self.with_text = {name for name, kind in self.types.items() if kind in _WITH_TEXT}
        self._prefix = self._key_prefix(str(table.join_keys[0]), config)

    def key(self, entity_id: str) -> bytes:
        """Feast's serialised entity key, of any version from 3."""
        value = entity_id.encode()
        return b"%b%b%b" % (self._prefix, struct.pack("<II", _STRING, len(value)), value)

    def entity_id(self, key: bytes) -> str:
        """The inverse of `key`."""
        return key[len(self._prefix) + 8 :].decode()

    @staticmethod
    def _key_prefix(join_key: str, config: Any) -> bytes:
        """What keys have before the value's type, length and bytes; Feast takes 5 µs for a key."""
        from feast.infra.key_encoding_utils import serialize_entity_key
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        def by_feast(value: str) -> bytes:
            key = EntityKey(join_keys=[join_key], entity_values=[Value(string_val=value)])
            return bytes(serialize_entity_key(key, config.entity_key_serialization_version))

        prefix = by_feast("")[:-8]
        if by_feast("ü1") != prefix + struct.pack("<II", _STRING, 3) + "ü1".encode():
            raise KuberecError(
                "entity_key_serialization_version "
                f"{config.entity_key_serialization_version} is not known: 3 is"
            )
        return prefix

    def encode(self, values: Mapping[str, Any]) -> dict[str, bytes]:
        """A row's Values as bytes."""
        return {name: value.SerializeToString() for name, value in values.items()}

    def decode(self, stored: Mapping[str, bytes]) -> dict[str, Any]:
        """And back; features that the view has no more are left out."""
        from feast.protos.feast.types.Value_pb2 import Value

        return {name: Value.FromString(raw) for name, raw in stored.items() if name in self.types}

    def texts(self, feature: str, raws: Sequence[bytes]) -> Iterable[tuple[Any, Any]]:
        """(text, number) of each value, as Feast's SQL stores keep them beside the bytes."""
        if feature not in self.with_text:
            return ((None, None) for _ in raws)
        from feast.infra.online_stores.helpers import extract_text_and_num
        from feast.protos.feast.types.Value_pb2 import Value

        return (extract_text_and_num(Value.FromString(raw), True) for raw in raws)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware time."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def unique(ids: Sequence[str]) -> list[str]:
    """`ids` as a list.

    Raises:
        ValueError: one is there twice.
    """
    listed = list(ids)
    if len(set(listed)) != len(listed):
        raise ValueError("an id is given twice")
    return listed
