"""Training windows by brute force, in plain Python: what every engine's are compared with."""

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from small_cores import k_core

from feature_repo.config import FeatureConfig
from recommender import schema

Event = tuple[str, str, int, int]  # user, item, microseconds, position
Row = dict[str, Any]


class Timed(NamedTuple):
    """An event as events.parquet has it."""

    item: str
    time: int
    rank: int
    event_time: int


def write_events(folder: Path, log: list[Event]) -> Path:
    """A snapshot folder that has only events, in the order of `log`."""
    folder.mkdir(parents=True, exist_ok=True)
    users, items, times, positions = (list(column) for column in zip(*log, strict=True))
    moments = pa.array(times, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    columns = [users, items, moments, ["view"] * len(log), [1.0] * len(log), positions]
    pq.write_table(pa.table(columns, schema=schema.EVENTS), schema.table_path(folder, "events"))
    return folder


def timelines(log: list[Event]) -> dict[str, list[Timed]]:
    """Each user's events, each once, in the order of time and position."""
    lines: dict[str, list[Timed]] = {}
    seen = set()
    for user, item, time, _ in sorted(log, key=lambda event: (event[0], event[2], event[3])):
        if (user, item, time) in seen:
            continue
        seen.add((user, item, time))
        line = lines.setdefault(user, [])
        rank = sum(other.time == time for other in line)
        line.append(Timed(item, time, rank, max(time, line[-1].event_time + 1) if line else time))
    return lines


def before(line: list[Timed], moment: int, length: int) -> list[Timed]:
    """The latest `length` events before an event time."""
    return [event for event in line if event.event_time < moment][-length:]


def cuts(log: list[Event], config: FeatureConfig) -> dict[str, list[tuple[str, int, int]]]:
    """(split, place of the event at the cut-off, overlap) of each user of the core."""
    lines = timelines(log)
    pairs = sorted({(user, event.item) for user, line in lines.items() for event in line})
    kept = k_core([user for user, _ in pairs], [item for _, item in pairs], config.k_core)
    core = {pair for pair, stays in zip(pairs, kept, strict=True) if stays}
    found: dict[str, list[tuple[str, int, int]]] = {}
    for user, line in lines.items():
        items = [event.item for event in line]
        firsts = [n for n, item in enumerate(items) if item not in items[:n]]
        firsts = [n for n in firsts if (user, items[n]) in core]
        if not firsts:
            continue
        valid, test = firsts[-2:]
        trains = [valid]
        while trains[-1] > config.history_length and len(trains) != config.train_windows:
            trains.append(trains[-1] - config.history_length + config.train_overlap)
        overlaps = [*[config.train_overlap] * (len(trains) - 1), 0]
        rows = [("train", *each) for each in zip(trains, overlaps, strict=True)]
        found[user] = [*reversed(rows), ("valid", valid, 0), ("test", test, 0)]
    return found


def windows(log: list[Event], config: FeatureConfig) -> list[Row]:
    """Rows of windows.parquet."""
    lines = timelines(log)
    found = []
    for user, rows in cuts(log, config).items():
        for split, place, overlap in rows:
            target = lines[user][place]
            latest = before(lines[user], target.event_time, config.history_length)
            found.append(
                {
                    "user_id": user,
                    "cutoff": target.event_time,
                    "split": split,
                    "history": [event.item for event in latest],
                    "target": None if split == "train" else target.item,
                    "overlap": overlap,
                    "history_times": [event.time for event in latest],
                }
            )
    return found


def histories(log: list[Event], config: FeatureConfig) -> list[Row]:
    """Rows of user_history.parquet."""
    placed = cuts(log, config)
    rows = []
    for user, line in timelines(log).items():
        known = {len(line), *(place for _, place, _ in placed.get(user, []))}
        for count in range(1, len(line) + 1) if config.offline_rows == "all" else sorted(known):
            last = line[count - 1]
            latest = before(line, last.event_time + 1, config.history_length)
            rows.append(
                {
                    "user_id": user,
                    "history": [event.item for event in latest],
                    "history_times": [event.time for event in latest],
                    "history_ranks": [event.rank for event in latest],
                    "event_count": len(latest),
                    "last_event_time": last.time,
                    "event_time": last.event_time,
                }
            )
    return rows


def events(log: list[Event]) -> list[Row]:
    """Rows of events.parquet."""
    return [
        {
            "user_id": user,
            "item_id": event.item,
            "timestamp": event.time,
            "rank": event.rank,
            "event_time": event.event_time,
        }
        for user, line in timelines(log).items()
        for event in line
    ]


def read(path: Path) -> list[Row]:
    """Rows of a parquet file, times as microseconds since 1970."""
    table = pq.read_table(path)
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            assert field.type == pa.timestamp("us", tz="UTC")
            table = table.set_column(place, field.name, table[field.name].cast(pa.int64()))
    rows: list[Row] = table.to_pylist()
    return rows


def assert_as_by_hand(out: Path, log: list[Event], config: FeatureConfig) -> None:
    """All that `feature_repo.offline.write.write_windows` wrote to `out`."""
    assert read(out / "windows.parquet") == windows(log, config)
    assert read(out / "offline" / "user_history.parquet") == histories(log, config)
    found = read(out / "offline" / "events.parquet")
    assert found == events(log)
    for one, other in pairwise(found):
        assert one["user_id"] < other["user_id"] or one["event_time"] < other["event_time"]
