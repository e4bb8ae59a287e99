"""`kuberec erase-user`: what is left of a user on this machine is searched byte by byte."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
import yaml
from feature_stores import REDIS_SETTINGS, RedisServer, redis_server
from replay_tables import KEY, log_row, write_log
from typer.testing import CliRunner

from feature_repo.config import FeatureConfig
from feature_repo.live.histories import LiveHistories
from feature_repo.live.intake import Intake, line_of
from feature_repo.live.rejects import Rejects
from feature_repo.materialize.home import materialize
from feature_repo.offline.build import build_features
from feature_repo.online.histories import online_histories
from feature_repo.online.reader import OnlineReader
from feature_repo.store import SETTINGS_VARIABLE, service_name, store_folder
from ingestion.ingest import ingest
from pipelines.cli import app
from pipelines.config import load_config
from recommender import schema
from recommender.files import read_json
from recommender.pseudonyms import pseudonym
from serving.settings import TransformerConfig
from serving.transformer.features import FeatureSource, FeatureStatus

pytestmark = pytest.mark.timeout(180)
CARLA, DAVE = "carla.conspicuous+77", "dave"


class Place(NamedTuple):
    """A machine on which a small run has been."""

    home: Path
    runs: Path
    run: Path
    config: Path
    redis: RedisServer

    def mentions(self, wanted: str) -> list[str]:
        """Everything that holds `wanted`: files as they are, tables decoded, keys of Redis."""
        found = []
        for root in (self.home, self.runs):
            for path in sorted(root.rglob("*")):
                if path.is_file() and not path.is_symlink() and wanted in _content(path):
                    found.append(path.relative_to(root.parent).as_posix())
        client = redis.Redis(port=self.redis.port)
        keys = [key for key in client.scan_iter("*") if key != b"kuberec:live:kuberec:user_history"]
        found += ["redis" for key in keys if wanted.encode() in key]
        notes = client.hgetall("kuberec:live:kuberec:user_history")
        found += ["notes in redis" for name in notes if name == wanted.encode()]
        return found


def _content(path: Path) -> str:
    text = path.read_bytes().decode("utf-8", errors="replace")
    if text.startswith("PAR1"):
        text += str(pq.read_table(path).to_pylist())
    if path.suffix == ".json":
        text += json.dumps(json.loads(text), ensure_ascii=False)
    return text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch, redis_server(folder) as server:
        patch.setenv("KUBEREC_HOME", str(folder / "home"))
        patch.setenv("KUBEREC_LOG_KEY", KEY.decode())
        patch.setenv("KUBEREC_REDIS", f"127.0.0.1:{server.port}")
        registry = store_folder(folder / "home") / "shared.db"
        patch.setenv("KUBEREC_FEATURE_REGISTRY", str(registry))
        run = folder / "runs" / "20261127-120000-small"
        made = Place(folder / "home", folder / "runs", run, folder / "small.yaml", server)
        _write_source(folder)
        _write_run(made)
        patch.delenv(SETTINGS_VARIABLE, raising=False)
        materialize(run / "steps" / "p" / "windows", made.home, "v1")
        _push_live(made.home)
        (folder / "feature_store.yaml").write_text(REDIS_SETTINGS)
        patch.setenv(SETTINGS_VARIABLE, str(folder / "feature_store.yaml"))
        materialize(run / "steps" / "p" / "windows", made.home, "v1")
        _push_live(made.home)
        yield made


def _push_live(home: Path) -> None:
    """An event of the user that is taken, and one that is refused."""
    events = [{"user_id": CARLA, "item_id": "i1", "timestamp": time} for time in (1e9, "soon")]
    rejects = Rejects(home / "live" / "rejects.jsonl")
    with LiveHistories(home) as histories:
        Intake(histories, rejects).take([line_of(event, "line 1") for event in events])


def _write_source(folder: Path) -> None:
    users = [CARLA, DAVE, "u3", "u4", "u5"]
    lines = [f"{user},i{item},{item}0{n}" for n, user in enumerate(users) for item in range(6)]
    bad = [f"{CARLA},i1,soon", f"{DAVE},i1,soon", f"a broken line of {CARLA}", f"{CARLA},i1,100"]
    for day, rows in (("1", [*lines, *bad, f"{CARLA},i1,100"]), ("2", ["u3,i1,900", "u4,i2,901"])):
        (folder / "events" / f"day={day}").mkdir(parents=True)
        text = "".join(f"{row}\n" for row in rows)
        (folder / "events" / f"day={day}" / "part.csv").write_text(f"user,item,time\n{text}")
    items = "".join(f"i{item},Title {item}\n" for item in range(6))
    (folder / "items.csv").write_text(f"id,name\n{items}")
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time"}
    source = {
        "name": "small",
        "events": {"path": str(folder / "events"), "format": "csv", "columns": columns},
        "items": {
            "path": str(folder / "items.csv"),
            "format": "csv",
            "columns": {"item_id": "id", "title": "name"},
        },
        "incremental": {"partition": "day=(?P<partition>[0-9]+)"},
        "max_reject_fraction": 0.5,
    }
    (folder / "small.yaml").write_text(yaml.safe_dump({"name": "small", "source": source}))


def _write_run(place: Place) -> None:
    """What a run leaves of users, but for training and serving."""
    steps = place.run / "steps" / "p"
    steps.mkdir(parents=True)
    (place.run / "config.yaml").write_text(place.config.read_text())
    state = place.home / "ingest" / "small"
    ingest(load_config(place.config).source, steps / "snapshot", state=state)
    (steps / "vectors").mkdir()
    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(24, np.float32)), 4)
    ids = [f"i{item}" for item in range(6)]
    pq.write_table(
        pa.table({"item_id": ids, "vector": vector}), steps / "vectors" / "vectors.parquet"
    )
    config = FeatureConfig(k_core=3)
    build_features(steps / "snapshot", steps / "vectors", config, steps / "windows")
    row = {"column": "user_id", "samples": [CARLA, "u3"], "observed": f"'{CARLA}' is new"}
    (steps / "validation.json").write_text(json.dumps({"expectations": [row]}))
    (steps / "page.html").write_text(f"<td>{CARLA}</td><td>u3</td>")
    lines = [f"features of user '{name}' (user_history) are 9 s old\n" for name in (CARLA, "u3")]
    logs = place.home / "serving" / "logs"
    logs.mkdir(parents=True)
    (logs / "transformer.log").write_text("".join(lines))
    (place.run / "run.log").write_text("ingest 1/1\n")
    asked = [{"user_id": CARLA, "history": ["i1"]}, {"user_id": "u3", "history": []}]
    (place.home / "serving" / "rollout.json").write_text(json.dumps({"requests": asked}))
    write_log(
        place.home / "request_log",
        [log_row(name, [(1, "i1")], 10**15) for name in (CARLA, "u3", CARLA, DAVE)]
        + [log_row(DAVE, [(1, "i1")], 10**15, request_id=f"for {CARLA}", model_version="v2")],
    )
    (place.home / "cache" / "steps").mkdir(parents=True)
    (place.home / "cache" / "steps" / "0a.json").write_text("{}")


def erase(place: Place, *options: str) -> Any:
    arguments = ["erase-user", CARLA, str(place.config), "--runs", str(place.runs), *options]
    return CliRunner().invoke(app, arguments)


def status(store: Path, user: str) -> FeatureStatus:
    """As the endpoint's transformer finds the user."""

    async def ask() -> FeatureStatus:
        config = TransformerConfig(lookup_timeout_s=10.0)
        source = FeatureSource(config, lambda: OnlineReader(store, service_name("v1")))
        await source.start()
        while source.opening:
            await asyncio.sleep(0.01)
        (row,) = await source.lookup([user])
        await source.close()
        return row.status

    return asyncio.run(ask())


def test_nothing_is_left_of_the_user_and_all_of_the_others(place: Place) -> None:
    before = place.mentions(CARLA)
    for name in (
        *("snapshot/events", "snapshot/users", "snapshot/rejects", "windows/windows"),
        *("windows/offline/user_history", "windows/offline/events"),
    ):
        assert f"runs/{place.run.name}/steps/p/{name}.parquet" in before
    assert {"redis", "home/feature_store/online.db", "home/serving/rollout.json"} <= set(before)
    assert {"notes in redis", "home/live/rejects.jsonl"} <= set(before)
    assert "home/serving/logs/transformer.log" in before
    assert any(name.startswith("home/ingest/small/increments/") for name in before)
    known_as = pseudonym(CARLA, KEY)
    assert [name.split("/")[1:3] for name in place.mentions(known_as)] == [
        ["request_log", "version=v1"]
    ]
    stores = [store_folder(place.home), place.config.parent / "feature_store.yaml"]
    assert [status(store, CARLA) for store in stores] == [FeatureStatus.OK] * 2
    others = contents(place)

    dry = erase(place, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "would be erased" in dry.output
    assert place.mentions(CARLA) == before

    done = erase(place)
    assert done.exit_code == 0, done.output
    assert place.mentions(CARLA) == []
    assert place.mentions(known_as) == []
    assert contents(place) == others
    logged = [
        row["user_id"]
        for path in sorted((place.home / "request_log").rglob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    assert logged == [pseudonym(name, KEY) for name in ("u3", DAVE, DAVE)]
    assert [status(store, CARLA) for store in stores] == [FeatureStatus.UNKNOWN] * 2
    assert [status(store, DAVE) for store in stores] == [FeatureStatus.OK] * 2
    assert online_histories(place.home, [CARLA, DAVE])[CARLA] == []
    assert not list((place.home / "cache" / "steps").iterdir())

    again = erase(place)
    assert again.exit_code == 0
    assert "nothing of this user is here" in again.output


def contents(place: Place) -> dict[str, Any]:
    """What there is of everybody else: rows of tables, texts, keys."""
    found: dict[str, Any] = {}
    for root in (place.home, place.runs):
        for path in sorted(root.rglob("*.parquet")):
            rows = pq.read_table(path).to_pylist()
            found[str(path)] = [
                row for row in map(str, rows) if CARLA not in row and "erased user" not in row
                and pseudonym(CARLA, KEY) not in row and "[erased]" not in row
                and "'row': '{}'" not in row
            ]  # fmt: skip
    with sqlite3.connect(store_folder(place.home) / "online.db") as database:
        query = 'SELECT entity_key, value FROM "kuberec_user_history"'
        rows = sorted(database.execute(query).fetchall())
        found["sqlite"] = [row for row in rows if CARLA.encode() not in row[0]]
    client = redis.Redis(port=place.redis.port)
    keys = [
        key for key in client.scan_iter("*")
        if CARLA.encode() not in key and not key.startswith(b"kuberec:live:")
    ]  # fmt: skip
    found["redis"] = {key: client.hgetall(key) for key in sorted(keys)}
    logs = (place.home / "serving" / "logs" / "transformer.log").read_text().splitlines()
    found["log"] = [line for line in logs if "u3" in line]
    found["asked"] = read_json(place.home / "serving" / "rollout.json")["requests"][-1]
    return found


def test_the_accounting_still_adds_up_and_the_next_ingestion_leaves_the_user_out(
    place: Place, tmp_path: Path
) -> None:
    summary = read_json(place.run / "steps" / "p" / "snapshot" / "snapshot.json")
    total = summary["kept"]["events"] + sum(summary["rejected"]["events"].values())
    assert total + summary["erased"]["events"] == summary["read"]["events"]
    state = place.home / "ingest" / "small"
    source = load_config(place.config).source
    # Staged before, and read anew: then nobody knows of whom a line without its text is.
    for folder, rows in ((state, 10), (tmp_path / "state", 9)):
        if folder != state:
            folder.mkdir()
            (folder / "erased.json").write_bytes((state / "erased.json").read_bytes())
        snapshot = tmp_path / f"snapshot of {folder.parent.name}"
        fresh = ingest(source, snapshot, state=folder)
        assert fresh["kept"]["events"] == 26
        assert fresh["rejected"]["events"]["erased user"] == rows
        for path in [*snapshot.iterdir(), *(folder / "increments").iterdir()]:
            assert "conspicuous" not in _content(path), path
        rejects = pq.read_table(schema.table_path(snapshot, "rejects")).to_pylist()
        erased = [row["row"] for row in rejects if row["reason"] == "erased user"]
        assert all(set(json.loads(row).values()) <= {None} for row in erased)
