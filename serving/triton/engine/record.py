"""engines.json: what is known of the TensorRT engines that lie in a sealed version's folder.

An engine fits one kind of GPU and one release of TensorRT, so it is no part of the version, which
is sealed and the same everywhere; its sha256 stands here instead, and is checked with the rest.
Light to import: `serving.version` reads it wherever a version is opened.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError
from recommender.files import read_json, sha256_file, write_json

ENGINES = "engines.json"
_PLAN = re.compile(r"ranker/1/model_\d+\.\d+\.plan")

Entry = dict[str, Any]


class EngineError(KuberecError):
    """No engine can be built here, or an engines.json that is none."""


def plan_name(capability: str) -> str:
    """The path of the engine for GPUs of a compute capability, such as "8.9"."""
    return f"ranker/1/model_{capability}.plan"


def read_engines(directory: Path) -> dict[str, Entry]:
    """Entries by the engine's path in the version's folder; none without an engines.json.

    Raises:
        EngineError: it is not readable, or speaks of files that are no engines.
    """
    path = Path(directory) / ENGINES
    if not path.is_file():
        return {}
    remedy = "delete it with the engines (ranker/1/*.plan), and build them again: kuberec engine"
    try:
        entries = read_json(path)["engines"]
        wrong = [name for name in entries if not _PLAN.fullmatch(name)]
        broken = [name for name in entries if not isinstance(entries[name], dict)]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"'{path}' says nothing of engines: {remedy}") from error
    if wrong or broken:
        raise EngineError(f"'{path}' speaks of {', '.join(wrong or broken)}, no engine: {remedy}")
    return dict(entries)


def check_engines(directory: Path, version: str, found: dict[str, str]) -> list[str]:
    """What is wrong with a version's engines; those that are right are taken out of `found`.

    Args:
        found: sha256 of the folder's files, by path.
    """
    try:
        entries = read_engines(directory)
    except EngineError as error:
        found.pop(ENGINES, None)
        return [str(error)]
    if found.pop(ENGINES, None) is None:
        return []
    wrong = []
    for name, entry in sorted(entries.items()):
        # `next` is there while `install` writes: the file is the one before, or the new one.
        right = {entry.get("sha256"), entry.get("next")} - {None}
        there = found.pop(name, None)
        if entry.get("version") != version:
            wrong.append(f"of another version ({entry.get('version')}): {name}")
        elif there is None:
            if "sha256" in entry or "next" not in entry:
                wrong.append(f"missing: {name}")
        elif there not in right:
            wrong.append(f"changed: {name}")
    return wrong


def install(directory: Path, scratch: Path, engine: Path, name: str, entry: Entry) -> None:
    """Put a built engine into a version's folder, in the place of an earlier one.

    Args:
        scratch: a folder on the same disk, outside the version: files come by renames.
        engine: the built engine, in `scratch`.
        entry: all that engines.json is to say, but sha256.
    """
    directory = Path(directory)
    scratch.mkdir(exist_ok=True)

    def put_record(entries: dict[str, Entry]) -> None:
        write_json(scratch / ENGINES, {"engines": entries})
        (scratch / ENGINES).replace(directory / ENGINES)

    bring(
        read_engines(directory),
        name,
        entry | {"sha256": sha256_file(engine)},
        put_record,
        lambda: engine.replace(directory / name),
    )


def bring(
    entries: dict[str, Entry],
    name: str,
    entry: Entry,
    put_record: Callable[[dict[str, Entry]], Any],
    put_engine: Callable[[], Any],
) -> dict[str, Entry]:
    """Add an engine to a version wherever it lies; its entries then.

    The version verifies whenever this is killed: that an engine is about to come, and which, is
    written down before it does.

    Args:
        entries: what engines.json says there.
        entry: of the engine, with its sha256.
        put_record, put_engine: write engines.json and the engine there, each at one stroke.
    """
    old = entries.get(name, {}).get("sha256")
    coming = {key: value for key, value in entry.items() if key != "sha256"}
    coming |= {"next": entry["sha256"]} | ({"sha256": old} if old else {})
    put_record(entries | {name: coming})
    put_engine()
    put_record(entries | {name: entry})
    return entries | {name: entry}


def brought_anew(local: Path, there: dict[str, Entry]) -> dict[str, Entry]:
    """Engines of a version here that a copy of it lacks, or has others of, by path."""
    return {
        name: entry
        for name, entry in read_engines(local).items()
        if "next" not in entry and there.get(name) != entry
    }
