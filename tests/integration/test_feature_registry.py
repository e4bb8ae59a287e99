"""Registries and settings that cannot be worked with: what is wrong, and what to do, is said."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from feature_stores import SERVICE, sqlite_store

from feature_repo.compatibility import RegistryError, check_compatible
from feature_repo.online.opening import StoreUnavailable, open_online
from feature_repo.online.reader import OnlineReader
from feature_repo.registry import register
from feature_repo.store import open_store, registry_place

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sqlite_store(tmp_path / "store", versions=[f"v{number}" for number in range(1, 8)])


def settings(folder: Path, **changes: Any) -> Path:
    content = {
        "project": "kuberec",
        "provider": "local",
        "registry": {"path": "registry.db"},
        "online_store": {"type": "sqlite", "path": "online.db"},
        "entity_key_serialization_version": 3,
    }
    path = folder / "feature_store.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def test_an_unknown_service_is_named_with_those_that_are_there(folder: Path) -> None:
    with pytest.raises(StoreUnavailable) as error:
        OnlineReader(folder, "recommend_v8")
    assert "no FeatureService 'recommend_v8'; it has recommend_v3, " in str(error.value)
    assert "recommend_v7 and 2 older: materialise the features" in str(error.value)


@pytest.mark.parametrize("what", ["type", "join key"])
def test_users_that_are_not_ours_are_refused_by_readers_and_writers(
    tmp_path: Path, what: str
) -> None:
    """Somebody else's `user`, with numbers for ids or another join key, under the same project."""
    folder = sqlite_store(tmp_path / "store")
    store = open_store(folder)
    from feast import Entity, FeatureService, FeatureView, Field, ValueType
    from feast.types import Array, Int64, String

    from feature_repo.sources import history_source

    key, kind = ("user_id", Int64) if what == "type" else ("customer", String)
    value_type = ValueType.INT64 if kind == Int64 else ValueType.STRING
    theirs = Entity(name="user", join_keys=[key], value_type=value_type)
    view = FeatureView(
        name="user_history",
        entities=[theirs],
        schema=[Field(name=key, dtype=kind), Field(name="history", dtype=Array(String))],
        source=history_source(folder / "offline"),
    )
    table = folder / "offline" / "user_history.parquet"
    import pyarrow.parquet as pq

    columns = pq.read_table(table)
    names = [key if name == "user_id" else name for name in columns.column_names]
    pq.write_table(columns.rename_columns(names), table)
    service = FeatureService(name=SERVICE, features=[view[["history"]]])
    store.delete_feature_view("user_history")
    store.delete_feature_service(SERVICE)
    store.apply([theirs, view, service])
    said = "ids of type INT64" if what == "type" else r"join keys? customer, not user_id"
    with pytest.raises(StoreUnavailable, match=f"{said}.*a `project` of its own"):
        OnlineReader(folder, SERVICE)
    before = (folder / "registry.db").read_bytes()
    with pytest.raises(RegistryError, match=f"entity 'user' has .*{said.split('?')[-1]}"):
        register(open_store(folder), [], "here")
    assert (folder / "registry.db").read_bytes() == before


def test_a_registry_of_a_newer_feast_is_refused(folder: Path) -> None:
    from feast.protos.feast.core.Registry_pb2 import Registry

    registry = Registry.FromString((folder / "registry.db").read_bytes())
    registry.registry_schema_version = "2"
    (folder / "registry.db").write_bytes(registry.SerializeToString())
    for opening in (open_store, open_online):
        with pytest.raises(Exception, match=r"registry schema 2, this Feast knows 1: a newer") as e:
            opening(folder)
        assert isinstance(e.value, RegistryError | StoreUnavailable)


def test_rows_of_a_newer_kuberec_are_refused(folder: Path) -> None:
    store = open_store(folder)
    view = store.get_feature_view("user_history")
    view.tags["kuberec_format"] = "2"
    store.apply([view])
    with pytest.raises(StoreUnavailable, match=r"have format 2, this Kuberec knows 1: a newer"):
        OnlineReader(folder, SERVICE)
    with pytest.raises(RegistryError, match="format 2"):
        check_compatible(open_store(folder), "here")


@pytest.mark.parametrize("content", [b"\xff\xfe no protobuf", b"\x0a\xff"])
def test_a_damaged_registry_is_named(folder: Path, content: bytes) -> None:
    (folder / "registry.db").write_bytes(content)
    with pytest.raises(StoreUnavailable, match=r"registry\.db' is no Feast registry, or a damaged"):
        open_online(folder)
    with pytest.raises(RegistryError, match="delete it, and materialise the features again"):
        open_store(folder)
    assert (folder / "registry.db").read_bytes() == content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"online_store": {"type": "rediss"}},
            r"online_store\.type is 'rediss'; allowed: sqlite, redis, postgres",
        ),
        ({"online_store": {"type": "redis", "port": "x"}}, r"Feast does not take it: .*port"),
        (
            {"registry": {"registry_type": "etcd", "path": "registry.db"}},
            r"registry cannot be opened .*etcd.*check `registry` in it",
        ),
        (
            {"online_store": {"type": "redis", "connection_string": "${NOT_SET_HERE}"}},
            r"uses NOT_SET_HERE, not set here: set it, from a Secret",
        ),
    ],
)
def test_settings_that_cannot_work_name_the_key(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(StoreUnavailable, match=message):
        open_online(settings(folder, **changes))


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("registry.db", None),
        ({"path": "registry.db"}, None),
        ({"path": "s3://bucket/registry.db"}, "s3://bucket/registry.db"),
        ({"registry_type": "sql", "path": "postgresql+psycopg://"}, "postgresql+psycopg://"),
    ],
)
def test_a_registry_is_a_file_here_or_a_url(
    tmp_path: Path, registry: Any, expected: str | None
) -> None:
    path = settings(tmp_path, registry=registry)
    assert registry_place(path) == (expected or tmp_path / "registry.db")
