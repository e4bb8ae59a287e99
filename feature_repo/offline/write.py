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
from feature_repo.offline.event_log import UTC, of_parts, write_events
from feature_repo.offline.events import number_ids
from feature_repo.offline.histories import Known, event_lists, history_rows, strictly_before
from feature_repo.offline.windows import WINDOWS, window_rows
from recommender import schema
from recommender.engines.base import TableEngine
from recommender.engines.parquet import row_groups
from recommender.files import write_json

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
    log = write_events(engine, events, ids, offline / EVENTS, tell)
    firsts = [
        engine.keep(f"firsts_{part}", first_events(timed)) for part, timed in enumerate(log.parts)
    ]
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
            tell(f"histories and windows{of_parts(part, parts)}")
            lists = event_lists(engine, log.parts[part], ids, cutoffs, config)
            histories.add(engine.batches(history_rows(engine, lists, config, known), HISTORY_ROWS))
            found = engine.batches(window_rows(engine, lists, config, known), HISTORY_ROWS)
            windows.add(without_leaks(found))
    about: dict[str, Any] = {
        "history_length": config.history_length,
        "covered_until_us": log.covered_until_us,
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
            "all_events": log.rows,
            "longest_history": log.longest,
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
