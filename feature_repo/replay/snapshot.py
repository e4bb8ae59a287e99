"""A replay on a snapshot: before its offline tables are built, by the same numbering and times."""

from pathlib import Path

from feature_repo.offline import ABOUT, EVENTS
from feature_repo.offline.events import named_events as named
from feature_repo.offline.events import newest, number_ids, timed_events
from feature_repo.offline.write import PART_EVENTS, ROWS, TIMED
from feature_repo.replay.events import Events, offline_events
from recommender import schema
from recommender.engines.duckdb import DuckDBTables
from recommender.engines.parquet import row_groups
from recommender.engines.settings import EngineConfig
from recommender.files import write_json


def snapshot_events(snapshot: Path, history_length: int, work: Path) -> Events:
    """A snapshot's events as offline tables have them, in the folder `work`."""
    engine = DuckDBTables(EngineConfig(), work)
    try:
        events = engine.parquet(schema.table_path(snapshot, "events"))
        ids = number_ids(events, PART_EVENTS, engine.keep)
        with row_groups(work / EVENTS, TIMED, ROWS) as file:
            for part in range(len(ids.parts)):
                timed = timed_events(engine, events, ids, part)
                file.add(engine.batches(named(engine, timed, ids), ROWS))
        times = events.select(time_us=engine.micros(events[schema.TIMESTAMP]))
        sound, last = newest(times.time_us)
        (found,) = times.agg(sound=sound, last=last).to_pyarrow().to_pylist()
    finally:
        engine.close()
    about = {
        "history_length": history_length,
        "covered_until_us": found["last"] if found["sound"] is None else found["sound"],
    }
    write_json(work / ABOUT, about)
    return offline_events(work)
