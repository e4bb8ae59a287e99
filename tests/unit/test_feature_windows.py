"""Windows on DuckDB over random logs: what brute force finds, and never an event of the future."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_windows import (
    Event,
    assert_as_by_hand,
    cuts,
    read,
    timelines,
    windows,
    write_events,
)

from feature_repo.config import FeatureConfig
from feature_repo.offline import write
from feature_repo.offline.windows import FeatureError
from feature_repo.offline.write import write_windows
from feature_repo.replay.snapshot import snapshot_events
from recommender.engines.duckdb import DuckDBTables
from recommender.engines.settings import EngineConfig
from recommender.errors import KuberecError
from recommender.files import read_json
from recommender.sequences import Vocabulary, load_windows


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBTables]:
    engine = DuckDBTables(FeatureConfig().engine, tmp_path_factory.mktemp("engine"))
    yield engine
    engine.close()


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Ties that fill the microseconds up to the next event, events twice, in any order."""
    # Four users with all of four items, so that there is a core of three; the rest is chance.
    core = [(f"u{user}", f"i{item}") for user in range(4) for item in range(4)]
    rest = draw(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 7)), max_size=50))
    pairs = core + [(f"u{user}", f"i{item}") for user, item in rest]
    moments = st.sampled_from([0, 1, 2, 3, 10, 1_000_000, 1_000_001, -5])
    times = draw(st.lists(moments, min_size=len(pairs), max_size=len(pairs)))
    places = draw(st.permutations(range(len(pairs))))
    rows = zip(pairs, times, places, strict=True)
    return [(user, item, time, place) for (user, item), time, place in rows]


@st.composite
def configs(draw: st.DrawFn) -> FeatureConfig:
    length = draw(st.integers(1, 8))
    return FeatureConfig(
        k_core=3,
        history_length=length,
        train_windows=draw(st.sampled_from([1, 2, 3, "all"])),
        train_overlap=draw(st.integers(0, length - 1)),
        offline_rows=draw(st.sampled_from(["windows", "all"])),
    )


def built(engine: DuckDBTables, folder: Path, log: list[Event], config: Any, **how: Any) -> Path:
    write_windows(engine, write_events(folder / "snapshot", log), config, folder / "out", **how)
    return folder / "out"


@settings(max_examples=12, deadline=None)
@given(logs(), configs(), st.integers(1, 80))
def test_the_same_as_by_hand(
    engine: DuckDBTables, log: list[Event], config: FeatureConfig, part_events: int
) -> None:
    with TemporaryDirectory() as folder:
        out = built(engine, Path(folder), log, config, part_events=part_events)
        assert_as_by_hand(out, log, config)
        last = max(time for _, _, time, _ in log)
        about = {"history_length": config.history_length, "covered_until_us": last}
        assert read_json(out / "offline" / "offline.json") == about


def test_one_date_that_is_wrong_does_not_cover_the_future(
    engine: DuckDBTables, tmp_path: Path
) -> None:
    """Else all live events would be the data's business until then, and no later data newer."""
    log = [
        (f"u{user}", f"i{item}", 10 * item, 4 * user + item)
        for user in range(4)
        for item in range(4)
    ]
    wrong = 5_600_000_000_000_000  # in 2147
    for part_events in (4, 100):
        folder = tmp_path / str(part_events)
        out = built(
            engine, folder, [*log, ("u3", "i9", wrong, 99)], FeatureConfig(k_core=3),
            part_events=part_events,
        )  # fmt: skip
        assert read_json(out / "offline" / "offline.json")["covered_until_us"] == 30
        (folder / "work").mkdir()
        assert snapshot_events(folder / "snapshot", 9, folder / "work").covered_until_us == 30
    later = [(user, item, time + wrong, place) for user, item, time, place in log]
    out = built(engine, tmp_path / "later", later, FeatureConfig(k_core=3))
    assert read_json(out / "offline" / "offline.json")["covered_until_us"] == wrong + 30


@settings(max_examples=5, deadline=None)
@given(logs(), st.integers(1, 6), st.data())
def test_all_windows_train_on_every_event_once(
    engine: DuckDBTables, log: list[Event], length: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, length - 1))
    config = FeatureConfig(
        k_core=3, history_length=length, train_windows="all", train_overlap=overlap
    )
    with TemporaryDirectory() as folder:
        out = built(engine, Path(folder), log, config)
        every = Vocabulary(sorted({item for _, item, _, _ in log}))
        train = load_windows(out, every)["train"]
        lines = timelines(log)
        valid = {user: rows[-2][1] for user, rows in cuts(log, config).items()}
        assert train.users == sorted(valid)
        for user, history in zip(train.users, train.histories, strict=True):
            earlier = [event.item for event in lines[user][: valid[user]]]
            assert [every.items[index - 1] for index in history] == earlier
        rows = [row for row in read(out / "windows.parquet") if row["split"] == "train"]
        assert all(len(row["history"]) == length for row in rows if row["overlap"])


# What a leak is: the event at the cut-off itself.
def up_to_and_with(number: Any) -> Any:
    return number


@settings(max_examples=4, deadline=None)
@given(logs(), configs())
def test_one_event_of_the_future_is_noticed(
    engine: DuckDBTables, log: list[Event], config: FeatureConfig
) -> None:
    """By the build, which writes nothing; and by comparison with brute force, were it not."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        with pytest.raises(FeatureError, match="not what came before their cut-off"):
            built(engine, Path(folder), log, config, known=up_to_and_with)
        patch.setattr(write, "without_leaks", lambda batches: batches)
        out = built(engine, Path(folder), log, config, known=up_to_and_with)
        found, expected = read(out / "windows.parquet"), windows(log, config)
        assert len(found) == len(expected)
        for leaking, right in zip(found, expected, strict=True):
            # Before an older training window's end may be what is also just behind it.
            assert leaking["history"] != right["history"] or right["split"] == "train"


def test_a_clock_that_is_too_coarse_is_noticed(
    engine: DuckDBTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = [(f"u{user}", f"i{item}", item, item) for user in range(4) for item in range(6)]
    built(engine, tmp_path, log, FeatureConfig(k_core=3))
    right = write.event_lists

    def coarse(*arguments: Any) -> Any:
        lists = right(*arguments)
        return lists.mutate(moments=lists.moments.map(lambda moment: moment // 10 * 10))

    monkeypatch.setattr(write, "event_lists", coarse)
    with pytest.raises(FeatureError, match=r"user 'u0', train at 1970-01-01 00:00:00\+00:00"):
        built(engine, tmp_path, log, FeatureConfig(k_core=3))


def test_an_engine_without_room_says_so(tmp_path: Path) -> None:
    engine = DuckDBTables(EngineConfig(memory="8MB", threads=1), tmp_path)
    try:
        numbers = ibis.range(0, 3_000_000).unnest().name("number").as_table()
        with pytest.raises(KuberecError, match=r"no room for the table 'one'.*features\.engine\."):
            engine.keep("one", numbers.agg(all=numbers.number.collect()))
    finally:
        engine.close()


def test_what_cannot_be_is_said_before_anything_is_built() -> None:
    with pytest.raises(ValueError, match=r"train_overlap is 5, .* would never move"):
        FeatureConfig(history_length=5, train_overlap=5)
    with pytest.raises(ValueError, match="train_windows is 0: 1 or more, or 'all'"):
        FeatureConfig(train_windows=0)
