"""Materialisation: Feast's own bytes, only what changed, live events kept."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_stores import RedisServer, redis_server
from materialize_places import KINDS, NOON, USERS, Place, content, emptied, make_place, users
from offline_tables import Rows, event_times, tables
from postgres_server import PostgresServer, postgres_server

from feature_repo.live.events import Event
from feature_repo.live.histories import LiveHistories
from feature_repo.live.merge import Entry
from feature_repo.live.rows import entries_of, merged
from feature_repo.materialize.home import materialize, materialize_items, register_version
from feature_repo.online.histories import online_histories
from feature_repo.online.reader import OnlineReader
from feature_repo.store import open_store, service_name, store_folder, versions
from feature_repo.stores.layout import to_us
from feature_repo.stores.open import open_rows
from recommender.files import read_json

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: RedisServer,
) -> Place:
    server = redis if request.param == "redis" else None
    return make_place(request.param, tmp_path / "home", monkeypatch, server)


@pytest.fixture(params=KINDS)
def any_place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis: RedisServer,
    postgres: PostgresServer,
) -> Place:
    home = tmp_path / "home"
    if request.param == "postgres":
        return make_place("postgres", home, monkeypatch, postgres=postgres)
    return make_place(request.param, home, monkeypatch, redis if request.param == "redis" else None)


def test_the_same_bytes_as_feast_writes(any_place: Place, tmp_path: Path) -> None:
    place = any_place
    made = tables(tmp_path / "a", users(1))
    assert place.result(made)["mode"] == "full"
    ours = content(place)
    emptied(place)
    store = open_store(store_folder(place.home))
    store.materialize(NOON - timedelta(days=9), NOON + timedelta(days=9))
    assert content(place) == ours
    histories = online_histories(place.home, [user for user, _, _ in users(1)])
    assert histories == {user: items for user, items, _ in users(1)}


def test_only_what_changed_is_written(place: Place, tmp_path: Path) -> None:
    """And what comes out is what a fresh store would have."""
    place.result(tables(tmp_path / "a", users(1)))
    before = content(place)
    assert place.result(tables(tmp_path / "same", users(1)))["mode"] == "unchanged"
    assert content(place) == before
    changed = list(users(1))
    for number in (3, 77, 299):
        changed[number] = (changed[number][0], ["new"], NOON + timedelta(seconds=number))
    changed.append(("another", ["x"], NOON))
    made = tables(tmp_path / "b", changed)
    done = place.result(made, "v2")
    assert (done["mode"], done["written"]) == ("incremental", 4)
    after = content(place)
    emptied(place)
    assert place.result(made, "v2")["written"] == USERS + 1
    assert content(place) == after
    assert versions(store_folder(place.home)) == ["v1", "v2"]
    said = read_json(store_folder(place.home) / "materialized.json")["user_history"]
    assert (said["rows"], said["covered_until_us"]) == (
        USERS + 1, to_us(NOON + timedelta(seconds=299)),
    )  # fmt: skip
    view = open_store(store_folder(place.home)).get_feature_view("user_history")
    assert len(view.materialization_intervals) == 3


def push(place: Place, user: str, *events: Entry) -> None:
    """As live events come."""
    rows = open_rows(open_store(store_folder(place.home)), "user_history")
    rows.change([user], lambda old: [merged(old[0], events, 50).row], live=True)
    rows.close()


def test_live_events_stay_on_newer_data(any_place: Place, tmp_path: Path) -> None:
    place = any_place
    first: Rows = [("ann", ["a", "b"], NOON), ("bob", ["c"], NOON), ("gone", ["d"], NOON)]
    place.result(tables(tmp_path / "a", first))
    later = NOON + timedelta(hours=2)
    covered = NOON + timedelta(hours=1)
    push(place, "ann", Entry(to_us(NOON) + 5, 0, "in the data"), Entry(to_us(later), 0, "live"))
    push(place, "new", Entry(to_us(later), 0, "first"))
    push(place, "gone", Entry(to_us(NOON) + 7, 0, "too old"))
    # The data has ann's event, was rid of her item a, and does not have the one of who is gone.
    second: Rows = [("ann", ["b", "in the data"], covered), ("bob", ["c"], NOON)]
    done = place.result(tables(tmp_path / "b", second), "v2")
    assert done["live"] == 1
    expected = {"ann": ["b", "in the data", "live"], "bob": ["c"], "new": ["first"]}
    assert online_histories(place.home, expected) == expected
    rows = open_rows(open_store(store_folder(place.home)), "user_history")
    (ann,) = rows.read(["ann"])
    rows.close()
    assert ann
    assert [entry.time_us for entry in entries_of(ann)[0]] == [
        *event_times(["b", "in the data"], covered), to_us(later),
    ]  # fmt: skip
    third: Rows = [("bob", ["c"], NOON), ("ann", ["b", "in the data", "live"], later)]
    for name in ("c", "d"):  # a shared store keeps who is gone for a version
        shifted = [(*row[:2], row[2] + timedelta(seconds=name == "d")) for row in third]
        place.result(tables(tmp_path / name, shifted), "v3")
    assert online_histories(place.home, ["gone", "ann"]) == {
        "gone": [], "ann": ["b", "in the data", "live"],
    }  # fmt: skip
    view = open_store(store_folder(place.home)).get_feature_view("user_history")
    assert len(view.materialization_intervals) == 4


def test_newer_data_corrects_live_events_also_where_it_has_nothing_new(
    any_place: Place, tmp_path: Path
) -> None:
    """It covers and lacks them: on rows that did not change, and of users whom it lacks."""
    place = any_place
    data: Rows = [("ann", ["a", "b"], NOON), ("bob", ["c"], NOON), ("eve", ["e", "f"], NOON)]
    place.result(tables(tmp_path / "a", data))
    first, second = (NOON + timedelta(hours=hours) for hours in (1, 3))
    push(place, "ann", Entry(to_us(NOON) + 60, 0, "dropped"))
    push(place, "eve", Entry(to_us(NOON) - 60, 0, "late, and dropped"))
    push(place, "nobody", Entry(to_us(NOON) + 60, 0, "dropped"))
    push(place, "bob", Entry(to_us(first) + 60, 0, "not covered yet"))
    push(place, "new", Entry(to_us(first) + 60, 0, "not covered yet"))
    done = place.result(tables(tmp_path / "b", data, first), "v2")
    assert (done["mode"], done["written"], done["live"]) == ("incremental", 3, 1)
    expected = {
        "ann": ["a", "b"], "bob": ["c", "not covered yet"], "eve": ["e", "f"],
        "nobody": [], "new": ["not covered yet"],
    }  # fmt: skip
    assert online_histories(place.home, expected) == expected
    done = place.result(tables(tmp_path / "c", data, second), "v3")
    assert (done["mode"], done["written"], done["live"]) == ("incremental", 1, 0)
    expected |= {"bob": ["c"], "new": []}
    assert online_histories(place.home, expected) == expected
    done = place.result(tables(tmp_path / "d", data, second + timedelta(hours=1)), "v4")
    assert done["written"] == 0


def test_one_more_version_writes_no_row(place: Place, tmp_path: Path) -> None:
    place.result(tables(tmp_path / "a", users(1, 5)))
    before = content(place)
    register_version(place.home, "v2")
    assert content(place) == before
    assert online_histories(place.home, ["user-1"])["user-1"] == users(1)[1][1]
    assert versions(store_folder(place.home)) == ["v1", "v2"]


def test_who_answers_and_who_takes_events_never_runs_the_registrys_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Feast keeps an on-demand view's function there, as source and by dill, and runs it."""
    place = make_place("sqlite", tmp_path / "home", monkeypatch)
    place.result(tables(tmp_path / "a", users(1, 5)))
    from feast.transformation import udf_rehydrate

    def resolve(**given: object) -> object:
        raise RuntimeError("code of the registry")

    monkeypatch.setattr(udf_rehydrate, "resolve_udf", resolve)
    with pytest.raises(RuntimeError, match="code of the registry"):
        open_store(store_folder(place.home)).list_on_demand_feature_views()
    with LiveHistories(place.home) as histories:
        histories.apply([Event("user-1", "live", to_us(NOON), 0, {})])
    assert online_histories(place.home, ["user-1"])["user-1"][-1] == "live"

    async def answer() -> list[str]:
        reader = OnlineReader(store_folder(place.home), service_name("v1"))
        (found,) = await reader.read(["user-1"])
        await reader.close()
        return list(found.history)

    assert asyncio.run(answer())[-1] == "live"


def test_items_that_join_are_known_to_the_next_materialisation(
    place: Place, tmp_path: Path
) -> None:
    made = tables(tmp_path / "a", users(1, 5))
    place.result(made)
    row = pq.read_table(made / "offline" / "item_features.parquet")
    joined = row.set_column(0, "item_id", pa.array(["joined"]))
    assert materialize_items(place.home, joined) == 1
    store = open_store(store_folder(place.home))
    asked = ["item_features:title"], [{"item_id": "joined"}]
    assert store.get_online_features(*asked).to_dict()["title"] == ["One"]
    for hours in (1, 2):  # a shared store keeps for a version what is gone
        newer = tables(tmp_path / str(hours), users(1, 5), NOON + timedelta(hours=hours))
        materialize(newer, place.home, "v2")
    assert store.get_online_features(*asked).to_dict()["title"] == [None]
