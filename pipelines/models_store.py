"""Which store and which version `kuberec models` means."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError
from recommender.files import read_json
from tracking.compare import interval
from tracking.registry import Registered, find, models, versions
from tracking.settings import TrackingConfig
from tracking.store import Store, TrackingError, exists, open_store
from tracking.versions import EVALUATION, document, registered_version

CURRENT = "current"


def tracking_of(config: Path | None, overrides: Sequence[str]) -> TrackingConfig:
    """The section of a run's YAML, with the run's name; the defaults without a YAML.

    Raises:
        KuberecError: the YAML cannot be used; `overrides` without one.
    """
    if config is None:
        if overrides:
            raise KuberecError("--set changes a run's YAML: name it by --config")
        return TrackingConfig()
    from pipelines.config import load_config

    loaded = load_config(config, overrides)
    return loaded.tracking.named(loaded.name)


def open_models(
    home: Path, config: Path | None, overrides: Sequence[str], model: str | None
) -> Store:
    """The store, its model named by `model` or by the YAML's run.

    Raises:
        TrackingError: nothing was tracked yet, or the server does not answer.
    """
    section = tracking_of(config, overrides)
    if not exists(section, home):
        raise TrackingError(
            f"nothing is tracked in '{home}' yet: `kuberec run CONFIG.yaml` trains and registers "
            "versions; for a server name a run's YAML by --config, or set MLFLOW_TRACKING_URI"
        )
    if model:
        section = section.model_copy(update={"model": model})
    return open_store(section, home)


def open_model(
    home: Path, config: Path | None, overrides: Sequence[str], model: str | None
) -> Store:
    """The store with the one model that is meant: named, or the only one, or the one that serves.

    Raises:
        TrackingError: there are several.
    """
    store = open_models(home, config, overrides, model)
    if model or config:
        return store
    known = models(store)
    serving = {(each.get("tracking") or {}).get("model") for each in manifests(home).values()}
    meant = known if len(known) == 1 else [each for each in known if each in serving]
    if len(meant) > 1:
        raise TrackingError(f"several models are registered: {', '.join(known)}; --model names one")
    if not meant:
        what = f"of {', '.join(known)} none serves here; --model names one" if known else "no model"
        raise TrackingError(f"MLflow at {store.shown}: {what}{'' if known else ' is registered'}")
    return dataclasses.replace(store, model=meant[0])


def rows_of(store: Store, home: Path, model: str | None) -> list[dict[str, Any]]:
    """The versions of the named model, or of all, newest first, JSON-ready."""
    named = [model] if model else models(store)
    if model and model not in models(store):
        raise TrackingError(
            f"model '{model}' is not registered in {store.shown}; registered: "
            f"{', '.join(models(store)) or 'none'}"
        )
    rows = []
    for name in named:
        one = dataclasses.replace(store, model=name)
        serving: dict[str, list[str]] = {}
        for version, number in served_ids(one, home).items():
            serving.setdefault(number, []).append(version)
        rows += [_row(one, each, serving) for each in versions(one)]
    return rows


def _row(store: Store, found: Registered, serving: dict[str, list[str]]) -> dict[str, Any]:
    try:
        report = document(store, found, EVALUATION)
        quality, edges = report["test"]["model"].get("ndcg@10"), interval(report, "ndcg@10")
    except TrackingError:  # deleted; the version is still a version
        quality, edges = None, None
    return {
        "model": found.model,
        "registered": found.number,
        "version": found.version,
        "aliases": list(found.aliases),
        "ndcg@10": quality,
        "interval": edges,
        "data_fingerprint": found.tags.get("data_fingerprint", ""),
        "created": found.created.isoformat(timespec="seconds"),
        "run": found.run,
        "serves_as": serving.get(found.number, []),
    }


def pick(store: Store, home: Path, name: str) -> Registered:
    """The version that a person names; `current` is the one that serves on this machine.

    Raises:
        TrackingError: there is none.
    """
    shown = manifests(home)
    if name == CURRENT:
        if not shown:
            raise TrackingError(
                "no version serves on this machine; name one by its number, id or alias "
                "(kuberec models list)"
            )
        name = next(iter(shown))
    if name in shown:  # perhaps one with new items, which has no number of its own
        found = registered_version(store, shown[name])
        if found is not None:
            return found
    return find(store, name)


def served_ids(store: Store, home: Path) -> dict[str, str]:
    """Number in the registry by id, of what serves on this machine."""
    found = {version: registered_version(store, each) for version, each in manifests(home).items()}
    return {version: each.number for version, each in found.items() if each is not None}


def manifests(home: Path) -> dict[str, dict[str, Any]]:
    """kuberec.json by id of the versions that serve on this machine, the current one first."""
    from serving.embedded.state import ServingHome

    place = ServingHome(home)
    found = {}
    for version in place.load().shares:
        path = place.versions / version / "kuberec.json"
        if path.is_file():
            found[version] = read_json(path)
    return found


def check_alias(alias: str) -> None:
    """KuberecError for what MLflow, or a reader of our tables, could take for something else."""
    taken = alias in ("latest", CURRENT) or re.fullmatch(r"v?[0-9]+|[0-9a-f]{12}", alias)
    if taken or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", alias):
        raise KuberecError(
            f"--alias '{alias}': allowed: a letter, then letters, digits, - and _, such as "
            f"champion or candidate; not 'latest', '{CURRENT}', a number or a version's id"
        )
