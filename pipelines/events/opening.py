"""What `push` and `follow` have in common: the store, its source's rules, the rejects."""

import json
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from feature_repo.facts import read_facts
from feature_repo.live.histories import LiveHistories
from feature_repo.live.intake import Intake
from feature_repo.live.origin import origin, read_origin
from feature_repo.live.rejects import Rejects
from feature_repo.live.times import UNITS, TimeRule
from feature_repo.store import nothing_there, own_settings, registry_file, store_folder
from ingestion.sources import SourceConfig, folder_name
from pipelines.events.source_rules import SourceRules
from recommender.errors import KuberecError

SOURCE_IDS, STORED_IDS = "source", "stored"


def time_rule(unit: str, zone: str | None) -> TimeRule:
    """From the options of a command.

    Raises:
        KuberecError: no such unit or time zone.
    """
    if unit not in UNITS:
        raise KuberecError(f"--time-unit '{unit}': allowed: {', '.join(UNITS)}")
    try:
        return TimeRule(unit, ZoneInfo(zone) if zone else None)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise KuberecError(
            f"--timezone '{zone}' is not known here: write such as UTC or Europe/Berlin"
        ) from error


def source_rules(
    home: Path, source: SourceConfig | None, user_ids: str, event_types: tuple[str, ...]
) -> SourceRules:
    """Of the run whose features a state home has.

    Args:
        source: of the run's config, if one was named; else the store says.
        user_ids: how events name users: SOURCE_IDS or STORED_IDS.

    Raises:
        KuberecError: there is no store; nobody says whose users these are; a key is missing, or
            another one.
    """
    if user_ids not in (SOURCE_IDS, STORED_IDS):
        raise KuberecError(f"--user-ids '{user_ids}': allowed: {SOURCE_IDS}, {STORED_IDS}")
    offline = store_folder(home) / "offline"
    stored = read_origin(offline)
    if source is not None:
        if stored is not None and stored["name"] != source.name:
            raise KuberecError(
                f"the features in '{store_folder(home)}' are of source '{stored['name']}', and "
                f"the config is of '{source.name}': name the YAML of the run that was materialised"
            )
        key = stored["user_key"] if stored else None
        stored = origin(json.loads(source.model_dump_json()), key)
    if stored is None and user_ids == SOURCE_IDS:
        if own_settings() is None and not registry_file(home).is_file():
            raise nothing_there(store_folder(home))
        raise KuberecError(
            f"'{offline}' does not say which source its users are of: name the run's YAML by "
            "--config; or say --user-ids stored if events name users as the store does and no "
            "filter is to leave any out"
        )
    state = home / "ingest" / folder_name(stored["name"]) if stored else None
    covered_until_us = read_facts(offline).covered_until_us
    return SourceRules(stored, state, covered_until_us, user_ids == STORED_IDS, event_types)


def open_intake(
    home: Path,
    rules: SourceRules,
    times: TimeRule,
    max_ahead_s: float,
    rejects: Path | None,
) -> tuple[LiveHistories, Intake]:
    """Both for one thread; histories are to be closed."""
    histories = LiveHistories(home)
    kept = None if rejects is None else Rejects(rejects)
    return histories, Intake(histories, kept, rules, times, max_ahead_s)


def live_folder(home: Path) -> Path:
    """Where consumers remember how far they are, and rejects lie by default."""
    return home / "live"
