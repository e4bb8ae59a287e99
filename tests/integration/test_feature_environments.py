"""feature_repo as a Feast user has it: the same definitions on SQLite and on PostgreSQL, by Feast's
own commands, and vectors searched where the store can."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from feature_stores import (
    EXPECTED,
    HISTORIES,
    REDIS_SETTINGS,
    SERVICE,
    fill,
    postgres_settings,
    postgres_store,
    redis_server,
    sqlite_store,
)
from offline_tables import tables
from postgres_server import PostgresServer, postgres_server

from feature_repo.config import EVENT_TIME
from feature_repo.materialize.home import materialize
from feature_repo.online.histories import online_histories
from feature_repo.online.opening import StoreUnavailable, open_online
from feature_repo.online.reader import OnlineReader, StoredFeatures
from feature_repo.registered import definitions
from feature_repo.registry import register, write_snapshot
from feature_repo.services import ANALYSIS, recommend_service
from feature_repo.status.status import read_status
from feature_repo.store import (
    EMBEDDED_SETTINGS,
    REPOSITORY,
    SETTINGS_VARIABLE,
    STORE_VARIABLE,
    open_store,
    registry_file,
)
from recommender.errors import KuberecError
from recommender.files import write_json

pytestmark = pytest.mark.timeout(180)
AT = datetime(2026, 11, 1, tzinfo=UTC)
Feast = Callable[..., str]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def feast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Feast:
    """Feast's own command; what it prints."""
    from feast.cli.cli import cli

    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)  # it goes into the repository, and stays there

    def run(*arguments: object) -> str:
        sys.modules.pop("definitions", None)
        done = CliRunner().invoke(cli, ["-c", str(REPOSITORY), *map(str, arguments)])
        assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
        return done.output

    return run


def item_table(folder: Path, vectors: list[list[float]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    items = [f"i{number}" for number in range(len(vectors))]
    table = pa.table(
        {
            "item_id": items,
            "title": [f"Title of {item}" for item in items],
            "categories": pa.array([["kind"]] * len(items)),
            "popularity": pa.array(range(len(items)), pa.int64()),
            "vector": pa.array(vectors, pa.list_(pa.float32())),
            EVENT_TIME: pa.array([AT] * len(items), pa.timestamp("us", tz="UTC")),
        }
    )
    pq.write_table(table, folder / "item_features.parquet")


async def read(store: Path, service: str, users: list[str]) -> dict[str, StoredFeatures]:
    reader = OnlineReader(store, service)
    found = await reader.read(users)
    await reader.close()
    return dict(zip(users, found, strict=True))


def read_all(store: Path) -> dict[str, StoredFeatures]:
    return asyncio.run(read(store, SERVICE, list(EXPECTED)))


def test_histories_come_back_from_postgres_as_they_were(
    server: PostgresServer, tmp_path: Path
) -> None:
    """Whatever zone the server is in."""
    import psycopg

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("ALTER ROLE postgres SET timezone = 'Asia/Kolkata'")
        try:
            found = read_all(postgres_store(tmp_path, server))
        finally:
            connection.execute("ALTER ROLE postgres RESET timezone")
    assert {user: row[:2] for user, row in found.items()} == {
        user: row[:2] for user, row in EXPECTED.items()
    }


def test_similar_items_on_postgres_are_those_of_brute_force(
    server: PostgresServer, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(300, 12)).astype(np.float32)
    settings = postgres_store(tmp_path, server)
    item_table(tmp_path / "offline", vectors.tolist())
    store = open_online(settings)
    found = definitions(tmp_path / "offline")
    store.apply([*found])
    store.write_to_online_store(
        "item_features", df=pd.read_parquet(tmp_path / "offline" / "item_features.parquet")
    )
    (field,) = (each for each in found.items.schema if each.name == "vector")
    assert (field.vector_index, field.vector_length) == (True, 12)
    lengths = np.linalg.norm(vectors, axis=1)
    for query in rng.normal(size=(5, 12)).astype(np.float32):
        cosine = vectors @ query / lengths / np.linalg.norm(query)
        expected = np.argsort(-cosine)[:10]
        answer = store.retrieve_online_documents_v2(
            features=["item_features:title", "item_features:vector"],
            query=query.tolist(),
            top_k=10,
            distance_metric="cosine",
        ).to_dict()
        found_here = sorted(zip(answer["distance"], answer["title"], strict=True))  # Feast does not
        assert [title for _, title in found_here] == [f"Title of i{number}" for number in expected]
        distances = [distance for distance, _ in found_here]
        np.testing.assert_allclose(distances, 1 - cosine[expected], atol=1e-5)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_on_demand_view_is_the_same_offline_and_online(
    server: PostgresServer, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "store"
    if kind == "sqlite":
        sqlite_store(folder)
        store = open_store(folder)
    else:
        store = open_online(postgres_store(folder, server))
    gap, offline = timedelta(minutes=31), folder / "offline"
    rows = pq.read_table(offline / "user_history.parquet").to_pylist()
    rows[0]["history_times"] = [0, 5_000_000, 5_000_000 + gap // timedelta(microseconds=1)]
    pq.write_table(pa.Table.from_pandas(pd.DataFrame(rows)), offline / "user_history.parquet")
    item_table(offline, [[]])  # no vectors, no index
    store.apply([*definitions(offline)])
    store.write_to_online_store("user_history", df=pd.DataFrame(rows))
    service = store.get_feature_service(ANALYSIS)
    names = ["user_id", "distinct_items", "span_seconds", "session_events"]
    users = [{"user_id": user} for user in EXPECTED]
    online = pd.DataFrame(store.get_online_features(service, users).to_dict())[names]
    asked = pd.DataFrame({"user_id": list(EXPECTED), "event_timestamp": AT})
    as_of = store.get_historical_features(asked, service).to_df()[names]
    expected = {
        "u1": (3, 1865.0, 1),
        "u2": (0, 0.0, 0),
        "u3": (1, 199.0, 200),
        "ü4": (1, 0.0, 1),
        "null": (0, 0.0, 0),
        "nobody": (0, 0.0, 0),
    }
    for found in (online, as_of):
        values = zip(*(found[name] for name in names[1:]), strict=True)
        assert dict(zip(found["user_id"], values, strict=True)) == expected


def test_feasts_own_commands_work_on_the_embedded_store(feast: Feast, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    sqlite_store(folder)
    item_table(folder / "offline", [[1.0, 0.0]])
    write_json(
        folder / "offline" / "offline.json",
        {"history_length": 7, "covered_until_us": 1, "owner": "shop team"},
    )
    write_json(folder / "versions.json", ["v1"])
    feast("apply")
    feast("materialize-incremental", "2027-01-01T00:00:00")
    listed = feast("feature-views", "list")
    assert all(name in listed for name in ("user_history", "item_features", "user_activity"))
    store = open_store(folder)
    assert {each.name for each in store.list_feature_services()} == {SERVICE, ANALYSIS}
    view = store.get_feature_view("user_history")
    assert (view.owner, view.tags["history_length"], view.tags["covered_until_us"]) == (
        *("shop team", "7"),
        "1",
    )
    assert read_all(folder)["u1"].history == HISTORIES["u1"][0]
    found = store.get_online_features(["item_features:title"], [{"item_id": "i0"}]).to_dict()
    assert found["title"] == ["Title of i0"]


def test_feast_apply_on_a_shared_registry_keeps_versions_of_other_homes(
    feast: Feast, server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the shipped file, which finds all of it by libpq's variables."""
    settings = REPOSITORY / "feature_store_postgres.yaml"
    for name, value in server.environment(server.database()).items():
        monkeypatch.setenv(name, value)
    item_table(tmp_path / "store" / "offline", [[1.0, 0.0]])
    other = tmp_path / "other"
    with monkeypatch.context() as patch:
        patch.setenv(SETTINGS_VARIABLE, str(settings))
        fill(open_store(other), other / "offline", HISTORIES, ["v1", "v2"])
    fill(open_store(tmp_path / "a"), tmp_path / "store" / "offline", HISTORIES)
    write_json(tmp_path / "store" / "versions.json", ["v3"])
    feast("-f", settings, "apply")
    found = {each.name for each in open_online(settings).list_feature_services()}
    assert found == {"recommend_v1", "recommend_v2", "recommend_v3", ANALYSIS}


def test_versions_register_at_the_same_time_and_each_pod_reads_a_copy(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = postgres_store(tmp_path / "shared", server)
    offline = tmp_path / "shared" / "offline"
    item_table(offline, [[1.0, 0.0]])
    monkeypatch.setenv(SETTINGS_VARIABLE, str(settings))
    versions = [f"v{number}" for number in range(6)]
    stores = [open_store(tmp_path / "home" / "feature_store") for _ in versions]

    def add(store: Any, version: str) -> None:
        found = definitions(offline)
        register(store, [*found, recommend_service(version, found.history)], str(settings))

    with ThreadPoolExecutor(len(versions)) as threads:
        list(threads.map(add, stores, versions))
    copy = registry_file(tmp_path / "home")
    assert copy == tmp_path / "home" / "feature_store" / "registry.db"
    write_snapshot(open_store(tmp_path / "home" / "feature_store"), copy)

    pod = yaml.safe_load(settings.read_text()) | {"registry": {"path": str(copy)}}
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    store = open_online(tmp_path / "pod.yaml")
    assert {f"recommend_{version}" for version in versions} <= {
        each.name for each in store.list_feature_services()
    }
    assert not store.list_on_demand_feature_views()  # their code is not for pods
    assert read_all(tmp_path / "pod.yaml")["u1"].history == HISTORIES["u1"][0]


def test_the_shipped_cluster_environment_from_materialisation_to_a_pod(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis and a registry in PostgreSQL, by feature_store_redis.yaml and variables alone; the pod
    has Redis and the published file, as by manifests/overlays/production/endpoint."""
    settings = REPOSITORY / "feature_store_redis.yaml"
    monkeypatch.setenv(SETTINGS_VARIABLE, str(settings))
    for name, value in server.environment(server.database()).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "redis").mkdir()
    rows = [("ann", ["item-1", "item-2"], AT), ("bob", ["item-1"], AT)]
    with redis_server(tmp_path / "redis") as redis:
        monkeypatch.setenv("KUBEREC_REDIS", f"127.0.0.1:{redis.port}")
        for version in ("v1", "v2"):
            home = tmp_path / f"home-{version}"  # two runs that know nothing of each other
            materialize(tables(tmp_path / version, rows), home, version)
            assert online_histories(home, ["ann"]) == {"ann": ["item-1", "item-2"]}
        versions = {view["name"]: view["versions"] for view in read_status(home)["views"]}
        assert versions["user_history"] == ["v1", "v2"]
        for name in server.environment("any"):
            monkeypatch.delenv(name)  # a pod has none of them
        (tmp_path / "pod.yaml").write_text(REDIS_SETTINGS)
        monkeypatch.setenv("KUBEREC_FEATURE_REGISTRY", str(registry_file(home)))
        for version in ("v1", "v2"):
            found = asyncio.run(read(tmp_path / "pod.yaml", f"recommend_{version}", ["bob"]))
            assert found["bob"].history == ["item-1"]


def test_a_registry_that_is_down_or_of_another_feast_is_said(
    server: PostgresServer, tmp_path: Path
) -> None:
    settings = postgres_store(tmp_path, server)
    text = settings.read_text()
    (tmp_path / "empty.yaml").write_text(postgres_settings(server, server.database()))
    with pytest.raises(StoreUnavailable, match=r"missing tables.*run `feast apply` once"):
        open_online(tmp_path / "empty.yaml")
    import psycopg

    database = yaml.safe_load(text)["online_store"]["database"]
    with psycopg.connect(server.url.replace("/postgres?", f"/{database}?")) as connection:
        connection.execute("ALTER TABLE feature_views RENAME feature_view_proto TO proto_v2")
    with pytest.raises(StoreUnavailable, match=r"feature_view_proto.*not those of this Feast"):
        open_online(settings)
    away = text.replace("postgresql+psycopg://postgres:@/", "postgresql+psycopg://me:hush@/")
    (tmp_path / "away.yaml").write_text(away.replace("/data", "/nowhere"))
    with pytest.raises(StoreUnavailable, match=r"cannot be opened.*check that the database") as e:
        open_online(tmp_path / "away.yaml")
    assert "hush" not in str(e.value)


def test_variables_are_taken_as_they_are_and_missing_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feature_repo.store import read_settings

    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.delenv("KUBEREC_REDIS", raising=False)
    with pytest.raises(KuberecError, match=r"uses KUBEREC_REDIS, not set here"):
        open_online(REPOSITORY / "feature_store_redis.yaml")
    monkeypatch.setenv("PGPASSWORD", "a: b #c'\"")
    shipped = read_settings(REPOSITORY / "feature_store_postgres.yaml")
    assert shipped["online_store"]["password"] == "a: b #c'\""
    assert EMBEDDED_SETTINGS.parent == REPOSITORY
