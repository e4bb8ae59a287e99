"""Features: no history knows its future, online is the latest of offline, reruns change nothing."""

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small_windows import Event, assert_as_by_hand, windows

from feature_repo.config import FeatureConfig
from feature_repo.materialize.home import materialize
from feature_repo.offline.build import build_features
from feature_repo.offline.windows import FeatureError
from feature_repo.online.histories import online_histories
from feature_repo.store import (
    STORE_VARIABLE,
    open_embedded,
    open_store,
    release_duckdb,
    store_folder,
)
from feature_repo.titles import item_titles
from recommender import schema
from recommender.errors import KuberecError
from recommender.files import read_json, sha256_file, sha256_tree, write_json

CONFIG = FeatureConfig(k_core=3, history_length=12, owner="shop team")


def random_log(seed: int, users: int = 12, items: int = 15, events: int = 400) -> list[Event]:
    """Many ties, some of them filling the microseconds up to the next event; repeated items."""
    rng = random.Random(seed)
    return [
        (
            f"u{rng.randrange(users)}",
            f"i{int(items * rng.random() ** 2)}",
            rng.choice([1_000_000 * rng.randrange(20), 5_000_000 + rng.randrange(6)]),
            position,
        )
        for position in range(events)
    ]


def write_inputs(folder: Path, log: list[Event], items: int = 15) -> Path:
    """snapshot/ and item_vectors/ below `folder`."""
    snapshot, vectors = folder / "snapshot", folder / "item_vectors"
    snapshot.mkdir(parents=True, exist_ok=True)
    vectors.mkdir(exist_ok=True)
    users, item_ids, micros, positions = (list(column) for column in zip(*log, strict=True))
    times = pa.array(micros, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    ones, kinds = [1.0] * len(log), ["view"] * len(log)
    table = pa.table([users, item_ids, times, kinds, ones, positions], schema=schema.EVENTS)
    order = [
        (schema.USER_ID, "ascending"),
        (schema.TIMESTAMP, "ascending"),
        ("position", "ascending"),
    ]
    pq.write_table(table.sort_by(order), schema.table_path(snapshot, "events"))
    catalogue = [f"i{number}" for number in range(items)]
    titles = [f"Title {item}" for item in catalogue]
    described = [catalogue, titles, titles, [["kind"]] * items]
    pq.write_table(pa.table(described, schema=schema.ITEMS), schema.table_path(snapshot, "items"))
    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(items * 4, np.float32)), 4)
    pq.write_table(pa.table({"item_id": catalogue, "vector": vector}), vectors / "vectors.parquet")
    return snapshot


def by_user(log: list[Event]) -> dict[str, list[str]]:
    """The reference: every user's items, by time and then by place in the file, each event once."""
    histories: dict[str, list[str]] = {}
    seen = set()
    for user, item, time, _ in sorted(log, key=lambda event: (event[0], event[2], event[3])):
        if (user, item, time) not in seen:
            histories.setdefault(user, []).append(item)
        seen.add((user, item, time))
    return histories


@pytest.fixture(scope="module")
def log() -> list[Event]:
    return random_log(seed=1)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, log: list[Event]) -> Path:
    folder = tmp_path_factory.mktemp("features")
    snapshot = write_inputs(folder, log)
    build_features(snapshot, folder / "item_vectors", CONFIG, folder / "windows")
    return folder


@pytest.fixture(scope="module")
def home(built: Path) -> Path:
    materialize(built / "windows", built / "home", "0123456789ab")
    return built / "home"


def test_a_build_is_what_brute_force_finds(built: Path, log: list[Event]) -> None:
    assert_as_by_hand(built / "windows", log, CONFIG)
    rows = windows(log, CONFIG)
    vocabulary = read_json(built / "windows" / "vocabulary.json")
    assert {row["target"] for row in rows if row["target"]} <= set(vocabulary)
    assert vocabulary == sorted(vocabulary)
    summary = read_json(built / "windows" / "features.json")
    assert summary["counts"]["users"] == len({row["user_id"] for row in rows}) == len(rows) // 3
    assert summary["counts"]["items"] == len(vocabulary)
    assert len(summary["sample_users"]) == 3
    left = {path.name for path in (built / "windows").iterdir()}
    assert left == {"offline", "windows.parquet", "vocabulary.json", "features.json"}


@pytest.mark.parametrize("rows", ["windows", "all"])
def test_feast_joins_the_same_histories(built: Path, tmp_path: Path, rows: str) -> None:
    """Feast's own point-in-time join, just before each cut-off. It takes rows up to a time."""
    config = FeatureConfig(
        k_core=3, history_length=5, train_windows="all", train_overlap=2, offline_rows=rows
    )
    build_features(built / "snapshot", built / "item_vectors", config, tmp_path / "windows")
    table = pq.read_table(tmp_path / "windows" / "windows.parquet")
    assert max(Counter(table["user_id"].to_pylist()).values()) > 5
    moments = pc.subtract(table["cutoff"].cast(pa.int64()), 1)
    asked = pa.table(
        {"user_id": table["user_id"], "event_timestamp": moments.cast(table["cutoff"].type)}
    )
    asked = asked.append_column("row", pa.array(range(len(asked))))
    store = open_embedded(tmp_path / "join")
    from feature_repo.entities import user
    from feature_repo.services import TRAINING, recommend_service
    from feature_repo.views import user_history

    view = user_history(tmp_path / "windows" / "offline")
    service = recommend_service(TRAINING, view)
    store.apply([user, view, service])
    joined = store.get_historical_features(asked.to_pandas(), features=service).to_arrow()
    names = [f"{view.name}:{feature}" for feature in ("history", "history_times")]
    timed = store.get_historical_features(asked.to_pandas(), features=names).to_arrow()
    release_duckdb()
    for answer, column in ((joined, "history"), (timed, "history_times")):
        found = dict(zip(answer["row"].to_pylist(), answer[column].to_pylist(), strict=True))
        expected = table[column].to_pylist()
        assert [found[row] for row in range(len(expected))] == expected


def test_online_is_the_latest_of_offline(home: Path, log: list[Event]) -> None:
    expected = {user: items[-CONFIG.history_length :] for user, items in by_user(log).items()}
    assert online_histories(home, [*expected, "nobody"]) == expected | {"nobody": []}
    folder = store_folder(home)
    asked = [{"user_id": user} for user in expected]
    store = open_store(folder)
    service = store.get_feature_service("recommend_0123456789ab")
    online = store.get_online_features(service, asked).to_dict()
    far = pa.array([datetime(2030, 1, 1, tzinfo=UTC)] * len(asked), pa.timestamp("us", tz="UTC"))
    entities = pa.table({"user_id": list(expected), "event_timestamp": far}).to_pandas()
    latest = store.get_historical_features(entities, service).to_df().set_index("user_id")
    for user, history, count in zip(
        online["user_id"], online["history"], online["event_count"], strict=True
    ):
        assert list(latest.loc[user, "history"]) == history
        assert latest.loc[user, "event_count"] == count


def test_online_items(home: Path) -> None:
    assert item_titles(home, ["i3", "unknown"]) == {"i3": "Title i3"}
    assert item_titles(home / "nothing here", ["i3"]) == {}
    answer = open_store(store_folder(home)).get_online_features(
        ["item_features:vector", "item_features:popularity", "item_features:categories"],
        [{"item_id": "i0"}],
    )
    item = answer.to_dict()
    assert item["vector"] == [[1.0] * 4]
    assert item["categories"] == [["kind"]]
    assert item["popularity"][0] > 0


def test_a_rerun_gives_the_same(built: Path, home: Path, log: list[Event]) -> None:
    before = sha256_tree(built / "windows")
    build_features(built / "snapshot", built / "item_vectors", CONFIG, built / "windows")
    assert sha256_tree(built / "windows") == before
    online = online_histories(home, by_user(log))
    materialize(built / "windows", home, "0123456789ab")
    assert online_histories(home, by_user(log)) == online
    assert read_json(store_folder(home) / "versions.json") == ["0123456789ab"]


def test_a_registry_that_does_not_know_the_version_is_named(home: Path, tmp_path: Path) -> None:
    other = store_folder(tmp_path)
    shutil.copytree(store_folder(home), other)
    write_json(other / "versions.json", ["another"])
    with pytest.raises(KuberecError, match="no FeatureService 'recommend_another'"):
        online_histories(tmp_path, ["u1"])


def test_feast_itself_applies_the_repository_and_keeps_the_store(
    built: Path, home: Path, log: list[Event]
) -> None:
    repository = Path(__file__).parents[2] / "feature_repo"
    environment = os.environ | {STORE_VARIABLE: str(store_folder(home))}
    feast = Path(sys.executable).with_name("feast")
    before = online_histories(home, by_user(log))
    applied = subprocess.run(
        [feast, "-c", repository, "apply"], env=environment, capture_output=True, text=True
    )
    assert applied.returncode == 0, applied.stdout + applied.stderr
    services = {service.name for service in open_store(store_folder(home)).list_feature_services()}
    assert services == {"recommend_0123456789ab", "user_analysis"}
    assert open_store(store_folder(home)).get_feature_view("user_history").owner == "shop team"
    assert online_histories(home, by_user(log)) == before


def test_other_data_replaces_all_of_the_old(tmp_path: Path, log: list[Event]) -> None:
    home = tmp_path / "home"
    write_inputs(tmp_path / "old", log)
    newer = [(user, "i1", 10**12 + n, 400 + n) for n, user in enumerate(["u1"] * 3 + ["gone"] * 9)]
    write_inputs(tmp_path / "old", log + newer)
    write_inputs(tmp_path / "new", log)
    for name, version in (("old", "a" * 12), ("new", "b" * 12)):
        folder = tmp_path / name
        build_features(folder / "snapshot", folder / "item_vectors", CONFIG, folder / "windows")
        materialize(folder / "windows", home, version)
    expected = {user: items[-CONFIG.history_length :] for user, items in by_user(log).items()}
    # Older events than those before, and a user less: last write must not win, nor the newer one.
    assert online_histories(home, [*expected, "gone"]) == expected | {"gone": []}
    services = {service.name for service in open_store(store_folder(home)).list_feature_services()}
    assert services == {f"recommend_{'a' * 12}", f"recommend_{'b' * 12}", "user_analysis"}


@pytest.fixture
def unchanged(home: Path) -> Iterator[None]:
    files = [store_folder(home) / name for name in ("registry.db", "versions.json")]
    before = [sha256_file(path) for path in files]
    yield
    assert [sha256_file(path) for path in files] == before


@pytest.mark.usefixtures("unchanged")
def test_a_kill_leaves_the_store_readable(built: Path, home: Path, log: list[Event]) -> None:
    script = (
        "import os, sys; from pathlib import Path;"
        "from feature_repo.materialize.home import materialize;"
        "stop = lambda done, total, what: os.kill(os.getpid(), 9) if what == 'switch' else None;"
        "materialize(Path(sys.argv[1]), Path(sys.argv[2]), 'killed000000', stop)"
    )
    arguments = [str(built / "windows"), str(home)]
    killed = subprocess.run([sys.executable, "-c", script, *arguments], check=False)
    assert killed.returncode == -9
    expected = {user: items[-CONFIG.history_length :] for user, items in by_user(log).items()}
    assert online_histories(home, expected) == expected


def test_what_cannot_be_done_says_what_to_do(tmp_path: Path, log: list[Event]) -> None:
    snapshot = write_inputs(tmp_path, log[:20])
    with pytest.raises(FeatureError, match=r"lower features\.k_core"):
        build_features(
            snapshot, tmp_path / "item_vectors", FeatureConfig(k_core=9), tmp_path / "windows"
        )
    assert not (tmp_path / "windows").exists()
    with pytest.raises(KuberecError, match="run a pipeline first"):
        online_histories(tmp_path, ["u1"])


def test_columns_that_ride_along_may_be_called_as_ours_are(tmp_path: Path) -> None:
    """And items without a text vector have an empty one."""
    snapshot = write_inputs(tmp_path, random_log(seed=1))
    items = pq.read_table(schema.table_path(snapshot, "items"))
    for name in ("vector", "popularity", "image"):
        items = items.append_column(name, pa.array(["theirs"] * len(items)))
    pq.write_table(items, schema.table_path(snapshot, "items"))
    empty = pa.array([[]] * len(items), pa.list_(pa.float32()))
    vectors = pa.table({"item_id": items["item_id"], "vector": empty, "image": empty})
    pq.write_table(vectors, tmp_path / "item_vectors" / "vectors.parquet")
    build_features(snapshot, tmp_path / "item_vectors", CONFIG, tmp_path / "windows")
    features = pq.read_table(tmp_path / "windows" / "offline" / "item_features.parquet")
    assert features["vector"].to_pylist() == [[]] * len(items)
    assert features["popularity"].type == pa.int64()
    materialize(tmp_path / "windows", tmp_path / "home", "0123456789ab")
    assert online_histories(tmp_path / "home", ["u1"])["u1"]
