"""What `kuberec features status` says, and that erasing a user reaches every kind of store."""

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from feature_stores import (
    HISTORIES,
    SERVICE,
    RedisServer,
    fill,
    postgres_store,
    redis_server,
    redis_store,
    sqlite_store,
)
from offline_tables import tables
from postgres_server import PostgresServer, postgres_server
from typer.testing import CliRunner

from feature_repo.materialize.home import materialize
from feature_repo.status import census
from feature_repo.status.status import read_status
from feature_repo.store import SETTINGS_VARIABLE, open_store, store_folder
from feature_repo.stores.open import open_rows
from pipelines import cli
from pipelines.erase.needle import Needle
from pipelines.erase.online import erase_shared_store
from pipelines.erase.report import Report
from pipelines.options import console
from recommender.errors import KuberecError
from recommender.files import write_json

pytestmark = pytest.mark.timeout(120)
NEWEST = max(moment for _, moment in HISTORIES.values()).isoformat()
KINDS = ["sqlite", "redis", "postgres"]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=KINDS)
def home(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis: RedisServer,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A state home whose features lie in a store of each kind."""
    home = tmp_path / "home"
    monkeypatch.setenv("KUBEREC_HOME", str(home))
    folder = store_folder(home)
    folder.mkdir(parents=True)
    if request.param == "sqlite":
        sqlite_store(folder)
        return home
    if request.param == "redis":
        settings = redis_store(tmp_path / "shared", redis.port)
    else:
        settings = postgres_store(tmp_path / "shared", postgres)
    monkeypatch.setenv(SETTINGS_VARIABLE, str(settings))
    return home


def about(folder: Path, **content: Any) -> None:
    write_json(folder / "offline" / "offline.json", content)


def test_rows_lag_owner_and_readers_of_every_kind(home: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    offline = shared if shared.is_dir() else store_folder(home)
    about(offline, history_length=200, covered_until_us=1_700_000_000_000_000, owner="shop team")
    store = open_store(store_folder(home))
    fill(store, offline / "offline", HISTORIES, ["v1", "v2"])
    about(store_folder(home), covered_until_us=1_700_000_060_000_000)
    (view,) = read_status(home)["views"]
    assert (view["rows"], view["rows_exact"], view["newest_event"]) == (5, True, NEWEST)
    lag = datetime.now(UTC) - datetime.fromisoformat(NEWEST)
    assert abs(view["lag_s"] - lag.total_seconds()) < 60
    assert (view["owner"], view["history_length"], view["behind_s"]) == ("shop team", 200, 60.0)
    assert view["versions"] == ["v1", "v2"]
    done = CliRunner().invoke(cli.app, ["features", "status"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    line = next(line for line in done.output.splitlines() if line.startswith("user_history"))
    assert all(word in line for word in ("5", "d ago", "60 s", "shop team", "v1, v2"))


def test_erasing_a_user_leaves_the_others(home: Path) -> None:
    if not (store_folder(home) / "online.db").exists():  # SQLite's is in test_erase_stores
        with contextlib.closing(open_rows(open_store(store_folder(home)), "user_history")) as rows:
            rows.change(["u1", "u3"], lambda old: old, live=True)
        for dry in (True, False):
            report = Report(dry=dry)
            erase_shared_store(home, Needle(["u1", "nobody"]), report)
            assert [each.what for each in report.found] in (["2 keys"], ["6 values"])
        with contextlib.closing(open_rows(open_store(store_folder(home)), "user_history")) as rows:
            assert rows.noted().keys() == {"u3"}
        again = Report(dry=False)
        erase_shared_store(home, Needle(["u1", "nobody"]), again)
        assert not again.found
        store = open_store(store_folder(home))
        users = [{"user_id": user} for user in HISTORIES]
        service = store.get_feature_service(SERVICE)
        found = store.get_online_features(service, users).to_dict()["history"]
        kept = {user: list(history or []) for user, history in zip(HISTORIES, found, strict=True)}
        assert kept == {
            user: [] if user == "u1" else history or [] for user, (history, _) in HISTORIES.items()
        }


def test_what_was_materialised_and_what_was_killed_half_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEREC_HOME", str(tmp_path))
    rows = [("ann", ["item-1"], datetime(2026, 11, 2, tzinfo=UTC))]
    materialize(tables(tmp_path / "windows", rows), tmp_path, "v1")
    items, user, activity = read_status(tmp_path)["views"][:3]
    assert [view["name"] for view in (items, user, activity)] == [
        *("item_features", "user_history", "user_activity")
    ]
    for view in (items, user):
        assert (view["rows"], view["materialized_rows"], view["behind_s"]) == (1, 1, 0.0)
        ago = datetime.now(UTC) - datetime.fromisoformat(view["materialized_at"])
        assert 0 <= ago.total_seconds() < 60
        assert view["under_way_rows"] is None
    assert (activity["kind"], activity["rows"], activity["services"]) == (
        *("on demand", None),
        ["user_analysis"],
    )
    store = open_store(store_folder(tmp_path))
    with contextlib.closing(open_rows(store, "user_history")) as stored:
        mark = stored.mark()
        assert mark is not None
        stored.claim(mark._replace(content={**mark.content, "running": {"written": 7}}))
    monkeypatch.setattr(console, "_width", 200)  # rich reads COLUMNS when it is made
    done = CliRunner().invoke(cli.app, ["features", "status"])
    line = next(line for line in done.output.splitlines() if line.startswith("user_history"))
    assert "1 row; under way or killed, 7 rows in" in line


def test_json_and_metrics_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEREC_HOME", str(tmp_path))
    sqlite_store(store_folder(tmp_path))
    file = tmp_path / "kuberec.prom"
    done = CliRunner().invoke(cli.app, ["features", "status", "--json", "--prometheus", str(file)])
    assert done.exit_code == 0, done.output
    (view,) = json.loads(done.stdout)["views"]
    lines = file.read_text().splitlines()
    newest = datetime.fromisoformat(view["newest_event"]).timestamp()
    name = "kuberec_feature_view_newest_event_timestamp_seconds"
    found = next(line for line in lines if line.startswith(f'{name}{{view="user_history"}}'))
    assert float(found.split()[-1]) == newest
    assert 'kuberec_feature_view_rows{view="user_history"} 5.0' in lines
    assert "kuberec_feature_store_up 1.0" in lines
    done = CliRunner().invoke(cli.app, ["features", "status"], env={"COLUMNS": "80"})
    assert "\nuser_history " in done.output  # a narrow screen cuts no name
    unread = tmp_path / "kuberec.txt"
    done = CliRunner().invoke(cli.app, ["features", "status", "--prometheus", str(unread)])
    assert "files that end in .prom" in str(done.exception)
    assert not unread.exists()


def test_a_store_that_is_down_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:
        settings = redis_store(tmp_path / "shared", server.port)
    monkeypatch.setenv(SETTINGS_VARIABLE, str(settings))
    file = tmp_path / "kuberec.prom"
    monkeypatch.setattr(sys, "argv", ["kuberec", "features", "status", "--prometheus", str(file)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (1, "")
    assert said.err.strip().startswith("error: the online store (Redis) does not answer")
    assert "kuberec_feature_store_up 0.0" in file.read_text()


def test_a_sample_of_a_large_redis_is_near_the_truth(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis as client

    moment = datetime(2026, 11, 1, tzinfo=UTC)
    many = {f"user-{number}": (["i1"], moment) for number in range(3000)}
    client.Redis(port=redis.port).flushall()
    settings = redis_store(tmp_path / "shared", redis.port, many)
    others = {f"other:{number}": "x" for number in range(3000)}
    client.Redis(port=redis.port).mset(others)
    monkeypatch.setenv(SETTINGS_VARIABLE, str(settings))
    monkeypatch.setattr(census, "_SAMPLE", 2000)
    (view,) = read_status(tmp_path)["views"]
    assert not view["rows_exact"]
    assert abs(view["rows"] - 3000) < 300  # four standard deviations are 270
    assert view["newest_event"] == moment.isoformat()
    (view,) = read_status(tmp_path, exact=True)["views"]
    assert (view["rows"], view["rows_exact"]) == (3000, True)


def test_without_a_store_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KuberecError, match="run a pipeline first"):
        read_status(tmp_path)
    assert not list(tmp_path.iterdir())
