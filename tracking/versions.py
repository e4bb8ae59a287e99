"""A model version enters the registry, and gets its aliases.

Its number comes when all its checks have passed, so that kuberec.json can name it. The alias
`candidate` comes at the start of its rollout, which stands behind every gate and is never taken
from a cache: a version that a cached step hands on becomes candidate again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recommender.config import whole_numbers
from recommender.files import read_json
from tracking.registry import Registered, find, read_artifact, register, set_alias
from tracking.runs import add_json, add_tags, completed, log_evaluation
from tracking.store import Store, TrackingError

MANIFEST = "kuberec.json"
FOLDER = "versions"  # of a run: what differs between the versions that come of it
CONFIG, EVALUATION, SNAPSHOT = "config.json", "evaluation.json", "snapshot.json"


@dataclass(frozen=True)
class Origin:
    """What a version is made of.

    Attributes:
        run: the training's; "" where it could not be written down.
        fingerprints: "data", "windows", "vectors" and "model": sha256 each.
        config: the sections that the version depends on.
        model_dir: of `train`.
        evaluation: evaluation.json.
        snapshot: snapshot.json.
        where: the version's folder or URI as the pipeline left it.
    """

    run: str
    fingerprints: Mapping[str, str]
    config: Mapping[str, Any]
    model_dir: Path
    evaluation: Path
    snapshot: Path
    where: str


def register_version(store: Store, version: str, origin: Origin) -> dict[str, Any]:
    """Register; a version that is there already keeps its number.

    Returns:
        what kuberec.json says of it: model, registered (the number), run, experiment, uri ("" for
        the state home's own store), git_sha and git_dirty of the training's code.

    Raises:
        TrackingError: the store does not take it.
    """
    trained = {name: origin.fingerprints[name] for name in ("windows", "vectors")}
    sections = {name: origin.config[name] for name in ("model", "training")}
    key = f"{origin.fingerprints['model'][:16]}"
    run = completed(store, origin.run, key, sections, trained, origin.model_dir)
    tags = {f"{name}_fingerprint": value for name, value in origin.fingerprints.items()}
    tags |= {"where": origin.where}
    log_evaluation(store, run, origin.evaluation)
    add_tags(store, run, {"data_fingerprint": origin.fingerprints["data"]})
    head = f"{FOLDER}/{version}"
    add_json(store, run, f"{head}/{CONFIG}", whole_numbers(origin.config))
    add_json(store, run, f"{head}/{EVALUATION}", read_json(origin.evaluation))
    add_json(store, run, f"{head}/{SNAPSHOT}", read_json(origin.snapshot))
    code = store.client.get_run(run).data.tags
    tags |= {name: code[name] for name in ("git.sha", "git.dirty") if name in code}
    found = register(store, run, version, tags)
    return {
        "model": found.model,
        "registered": found.number,
        "run": run,
        "experiment": store.experiment,
        "uri": "" if store.embedded else store.uri,
        "git_sha": code.get("git.sha", "unknown"),
        "git_dirty": code.get("git.dirty", "unknown"),
    }


def mark(store: Store, folder: Path, alias: str, say: Callable[[str], None]) -> None:
    """Give the alias to the registered version of a model version's folder.

    Args:
        say: told of a version that is not in this registry, which is no reason not to serve it.
    """
    try:
        manifest = read_json(folder / MANIFEST)
        version = str(manifest["version"])
    except (OSError, ValueError, KeyError):
        return  # the rollout says what is wrong with the folder
    found = registered_version(store, manifest)
    if found is None:
        say(
            f"version {version} is not registered in MLflow at {store.shown}, so it "
            f"does not become {alias}; `kuberec run --no-cache` registers it anew"
        )
        return
    set_alias(store, found.number, alias)


def registered_version(store: Store, manifest: Mapping[str, Any]) -> Registered | None:
    """Of kuberec.json's content: where it says so, else by the version's id; None for none."""
    said = manifest.get("tracking") or {}
    names = [said["registered"]] if said.get("model") == store.model else []
    for name in [*names, manifest["version"], (manifest.get("items") or {}).get("parent")]:
        if not name:
            continue
        try:
            found = find(store, str(name))
        except TrackingError:
            continue
        # A number that another registry gave.
        if name not in names or found.run == said["run"]:
            return found
    return None


def document(store: Store, found: Registered, name: str) -> Any:
    """config.json, evaluation.json or snapshot.json of a registered version.

    Raises:
        TrackingError: it is not there.
    """
    return read_artifact(store, found.run, f"{FOLDER}/{found.version}/{name}")
