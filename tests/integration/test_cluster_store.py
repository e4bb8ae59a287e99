"""The feature store as on a cluster: a feature_store.yaml with Redis, a registry that travels."""

import shutil
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from json import dumps, loads
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from feature_stores import REDIS_SETTINGS, RedisServer, redis_server
from offline_tables import Rows, tables
from tiny_version import catalogue, write_tiny_version

from feature_repo.materialize.home import materialize
from feature_repo.online.histories import online_histories
from feature_repo.store import SETTINGS_VARIABLE, registry_file, store_folder, versions
from recommender.errors import KuberecError
from recommender.files import sha256_file
from serving.embedded.transformer import (
    TransformerPorts,
    launch_transformer,
    wait_for_transformer,
)
from serving.kubernetes.model_store import publish
from serving.ports import free_ports
from serving.settings import TransformerConfig
from serving.triton.server import temporary_triton
from serving.version import REGISTRY

pytestmark = pytest.mark.timeout(180)


class ClusterStore(NamedTuple):
    """What a `materialize` step is given: variables and a file."""

    home: Path
    settings: Path
    redis: RedisServer


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterStore]:
    (tmp_path / "redis").mkdir()
    settings = tmp_path / "config" / "feature_store.yaml"
    settings.parent.mkdir()
    settings.write_text(REDIS_SETTINGS)
    home = tmp_path / "home"
    with redis_server(tmp_path / "redis") as server:
        monkeypatch.setenv(SETTINGS_VARIABLE, str(settings))
        monkeypatch.setenv("KUBEREC_REDIS", f"127.0.0.1:{server.port}")
        monkeypatch.setenv("KUBEREC_FEATURE_REGISTRY", f"{home}/feature_store/registry.db")
        yield ClusterStore(home, settings, server)


def at(day: int) -> datetime:
    return datetime(2026, 11, day, 12, tzinfo=UTC)


ROWS: Rows = [("ann", ["item-1", "item-2"], at(10)), ("gone", ["item-5"], at(11))]


def test_rows_go_to_redis_and_the_registry_to_its_file(store: ClusterStore, tmp_path: Path) -> None:
    result = materialize(tables(tmp_path / "w", ROWS), store.home, "v1")
    assert result["rows"] == {"user_history": 2, "item_features": 1}
    assert registry_file(store.home).is_file()
    assert not (store_folder(store.home) / "online.db").exists()
    expected = {"ann": ["item-1", "item-2"], "gone": ["item-5"], "nobody": []}
    assert online_histories(store.home, expected) == expected
    materialize(tables(tmp_path / "again", ROWS), store.home, "v1")
    assert online_histories(store.home, expected) == expected
    assert versions(store_folder(store.home)) == ["v1"]


def test_older_data_leaves_what_is_newer_and_adds_who_is_not_there(
    store: ClusterStore, tmp_path: Path
) -> None:
    materialize(tables(tmp_path / "new", ROWS), store.home, "v1")
    earlier: Rows = [("ann", ["item-9"], at(9)), ("bob", ["item-3"], at(8))]
    result = materialize(tables(tmp_path / "old", earlier), store.home, "v2")
    assert [result["views"]["user_history"][each] for each in ("mode", "written")] == ["older", 1]
    expected = {"ann": ["item-1", "item-2"], "gone": ["item-5"], "bob": ["item-3"]}
    assert online_histories(store.home, expected) == expected
    assert versions(store_folder(store.home)) == ["v1", "v2"]


def test_who_is_gone_stays_for_one_more_version(store: ClusterStore, tmp_path: Path) -> None:
    """Newer data decides: also where it takes events away."""
    materialize(tables(tmp_path / "1", ROWS), store.home, "v1")
    materialize(tables(tmp_path / "2", [("ann", ["item-7"], at(12))]), store.home, "v2")
    expected = {"ann": ["item-7"], "gone": ["item-5"]}
    assert online_histories(store.home, expected) == expected
    again = materialize(
        tables(tmp_path / "2 again", [("ann", ["item-7"], at(12))]), store.home, "v3"
    )
    assert again["views"]["user_history"]["mode"] == "unchanged"
    assert online_histories(store.home, expected) == expected
    last = materialize(tables(tmp_path / "3", [("ann", ["item-8"], at(13))]), store.home, "v4")
    assert last["views"]["user_history"]["deleted"] == 1
    assert online_histories(store.home, expected) == {"ann": ["item-8"], "gone": []}


def test_a_store_that_is_away_leaves_the_registry_and_says_so(
    store: ClusterStore, tmp_path: Path
) -> None:
    materialize(tables(tmp_path / "w", ROWS), store.home, "v1")
    before = sha256_file(registry_file(store.home))
    store.redis.kill()
    with pytest.raises(
        KuberecError, match=r"online store \(Redis\) of '.*feature_store.yaml' does not"
    ):
        materialize(tables(tmp_path / "again", ROWS), store.home, "v2")
    assert sha256_file(registry_file(store.home)) == before
    assert versions(store_folder(store.home)) == ["v1"]
    store.redis.start()
    materialize(tables(tmp_path / "third", ROWS), store.home, "v2")
    assert versions(store_folder(store.home)) == ["v1", "v2"]
    assert online_histories(store.home, ["ann"]) == {"ann": ["item-1", "item-2"]}


def test_settings_that_cannot_work_are_named(
    store: ClusterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBEREC_FEATURE_REGISTRY")
    with pytest.raises(KuberecError, match=r"registry.path is '\$\{KUBEREC_FEATURE_REGISTRY\}'"):
        registry_file(store.home)
    store.settings.write_text("project: kuberec\n")
    with pytest.raises(KuberecError, match="names no registry"):
        registry_file(store.home)
    monkeypatch.setenv(SETTINGS_VARIABLE, "/nowhere.yaml")
    with pytest.raises(KuberecError, match=r"names '/nowhere\.yaml', which is no file"):
        registry_file(store.home)


def test_a_transformer_needs_its_version_folder_and_redis_alone(
    store: ClusterStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry comes from the published folder; that of the state home is gone."""
    materialize(tables(tmp_path / "w", ROWS), store.home, "v1")
    version = write_tiny_version(tmp_path / "version" / "v1", catalogue(), "v1")
    mount = tmp_path / "mount"
    mount.mkdir()
    publish(version, registry_file(store.home), "pvc://models", mount)
    shutil.rmtree(store.home)
    published = mount / "v1"
    monkeypatch.setenv("KUBEREC_FEATURE_REGISTRY", str(published / REGISTRY))
    monkeypatch.delenv(SETTINGS_VARIABLE)
    with temporary_triton(version, tmp_path / "t") as triton:
        server = launch_transformer(
            published,
            TransformerPorts(*free_ports(3)),
            triton.grpc_port,
            store.settings,
            TransformerConfig(lookup_timeout_s=2.0),
            tmp_path / "settings.json",
            tmp_path / "transformer.log",
        )
        try:
            wait_for_transformer(server, 60, lambda message: None)
            known, unknown = ask(server.http_url, "ann"), ask(server.http_url, "nobody")
        finally:
            server.stop()
    assert (known["feature_status"], unknown["feature_status"]) == (["ok"], ["unknown"])
    assert not {"item-1", "item-2"} & set(known["item_ids"])


def ask(url: str, user: str) -> dict[str, Any]:
    tensor = {"name": "user_id", "datatype": "BYTES", "shape": [1], "data": [user]}
    request = urllib.request.Request(
        f"http://{url}/v2/models/recommend/infer",
        dumps({"inputs": [tensor]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return {each["name"]: each["data"] for each in loads(response.read())["outputs"]}
