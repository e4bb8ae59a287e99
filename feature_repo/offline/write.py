"""events.parquet, user_history.parquet and windows.parquet, part by part."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.config import EVENT_TIME, FeatureConfig
from feature_repo.live.origin import KEY, origin_of
from feature_repo.offline import ABOUT, EVENTS, HISTORIES
from feature_repo.offline.cutoffs import (
    FeatureError,
    find_core,
    find_cutoffs,
    first_events,
    sample_users,
)
from feature_repo.offline.events import (
    NUMBER,
    RANK,
    TIME_US,
    named_events,
    newest,
    number_ids,
    timed_events,
)
from feature_repo.offline.histories import Known, event_lists, history_rows, strictly_before
from feature_repo.offline.windows import WINDOWS, window_rows
from recommender import schema
from recommender.engines.base import TableEngine
from recommender.engines.parquet import row_groups
from recommender.files import write_json

UTC = pa.timestamp("us", tz="UTC")
TIMED = pa.schema(
    [
        (schema.USER_ID, pa.string()),
        (schema.ITEM_ID, pa.string()),
        (schema.TIMESTAMP, UTC),
        (RANK, pa.int64()),  # among the user's events of that microsecond, from 0
        (EVENT_TIME, UTC),
    ]
)
HISTORY = pa.schema(
    [
        (schema.USER_ID, pa.string()),
        ("history", pa.list_(pa.string())),
        ("history_times", pa.list_(pa.int64())),
        ("history_ranks", pa.list_(pa.int64())),
        ("event_count", pa.int64()),
        ("last_event_time", UTC),
        (EVENT_TIME, UTC),
    ]
)
PART_EVENTS = 2_000_000
ROWS = 131_072  # of events, a row group
HISTORY_ROWS = 10_000  # histories are long


def write_windows(
    engine: TableEngine,
    snapshot: Path,
    config: FeatureConfig,
    out: Path,
    tell: Callable[[str], None] = lambda message: None,
    part_events: int = PART_EVENTS,
    known: Known = strictly_before,
) -> dict[str, Any]:
    """Write out/windows.parquet and out/vocabulary.json, and in out/offline what they are made of.

    Args:
        part_events: events that DuckDB, which holds lists in memory, has at a time. Spark, which
            divides its work itself, has all of them.
        known: see feature_repo.offline.windows.

    Returns:
        The content of features.json.

    Raises:
        FeatureError: the k-core is empty; or a history holds an event that it must not.
    """
    offline = out / "offline"
    offline.mkdir(parents=True, exist_ok=True)
    tell("number users and items")
    events = engine.parquet(schema.table_path(snapshot, "events"))
    ids = number_ids(events, None if engine.name == "spark" else part_events, engine.keep)
    parts = range(len(ids.parts))
    if not parts:
        raise FeatureError(f"'{snapshot}' has no events: bring some")
    timed, firsts = [], []
    longest = 0
    believed, latest = set[int](), set[int]()  # newest times of parts
    with row_groups(offline / EVENTS, TIMED, ROWS) as file:
        for part in parts:
            tell(f"events in time{_of(part, parts)}")
            timed.append(timed_events(engine, events, ids, part))
            file.add(engine.batches(named_events(engine, timed[part], ids), ROWS))
            sound, last = newest(timed[part][TIME_US])
            facts = timed[part].agg(most=timed[part][NUMBER].max(), sound=sound, last=last)
            (fact,) = facts.to_pyarrow().to_pylist()
            longest = max(longest, fact["most"])
            believed |= {fact["sound"]} - {None}
            latest.add(fact["last"])
            firsts.append(engine.keep(f"firsts_{part}", first_events(timed[part])))
    tell("k-core")
    core = find_core(
        ibis.union(*firsts) if len(firsts) > 1 else firsts[0], config.k_core, engine.keep
    )
    cutoffs = find_cutoffs(core, engine.keep)
    with (
        row_groups(offline / HISTORIES, HISTORY, HISTORY_ROWS) as histories,
        row_groups(out / "windows.parquet", WINDOWS, HISTORY_ROWS) as windows,
    ):
        for part in parts:
            tell(f"histories and windows{_of(part, parts)}")
            lists = event_lists(engine, timed[part], ids, cutoffs, config)
            histories.add(engine.batches(history_rows(engine, lists, config, known), HISTORY_ROWS))
            found = engine.batches(window_rows(engine, lists, config, known), HISTORY_ROWS)
            windows.add(without_leaks(found))
    about: dict[str, Any] = {
        "history_length": config.history_length,
        "covered_until_us": max(believed or latest),
    }
    about |= {"owner": config.owner} if config.owner else {}
    source = origin_of(snapshot)  # for events that come later, live
    write_json(offline / ABOUT, about | ({KEY: source} if source else {}))
    tell("vocabulary")
    vocabulary = core.select("item").distinct().join(ids.items, "item")[schema.ITEM_ID]
    names = sorted(vocabulary.to_pyarrow().to_pylist())
    write_json(out / "vocabulary.json", names)
    summary = {
        "counts": {
            "users": int(cutoffs.count().execute()),
            "items": len(names),
            "events": int(core.count().execute()),
            "all_users": int(ids.users.count().execute()),
            "all_events": file.total,
            "longest_history": longest,
        },
        "k_core": config.k_core,
        "history_length": config.history_length,
        "sample_users": sample_users(cutoffs, ids.users),
    }
    write_json(out / "features.json", summary)
    return summary


def without_leaks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of `window_rows` as they are.

    Raises:
        FeatureError: a history is not what came before its cut-off.
    """
    for batch in batches:
        leaks = batch.column("leaks")
        if pc.any(leaks).as_py():
            row = batch.filter(leaks).slice(0, 1).to_pylist()[0]
            raise FeatureError(
                f"{pc.sum(leaks).as_py()} of {batch.num_rows} histories are not what came before "
                f"their cut-off; user '{row['user_id']}', {row['split']} at {row['cutoff']}: "
                f"{len(row['history'])} events. Nothing was written: this is a mistake of the "
                "program or of the engine, please report it"
            )
        yield batch


def _of(part: int, parts: range) -> str:
    return f", part {part + 1} of {len(parts)}" if len(parts) > 1 else ""
