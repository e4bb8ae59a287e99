"""A replay on a snapshot: before its offline tables are built, by the same numbering and times."""

from pathlib import Path

from feature_repo.offline import ABOUT, EVENTS
from feature_repo.offline.event_log import write_events
from feature_repo.offline.events import number_ids
from feature_repo.offline.write import PART_EVENTS
from feature_repo.replay.events import Events, offline_events
from recommender import schema
from recommender.engines.duckdb import DuckDBTables
from recommender.engines.settings import EngineConfig
from recommender.files import write_json


def snapshot_events(snapshot: Path, history_length: int, work: Path) -> Events:
    """A snapshot's events as offline tables have them, in the folder `work`."""
    engine = DuckDBTables(EngineConfig(), work)
    try:
        events = engine.parquet(schema.table_path(snapshot, "events"))
        ids = number_ids(events, PART_EVENTS, engine.keep)
        log = write_events(engine, events, ids, work / EVENTS)
    finally:
        engine.close()
    about = {"history_length": history_length, "covered_until_us": log.covered_until_us}
    write_json(work / ABOUT, about)
    return offline_events(work)
