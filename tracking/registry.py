"""The registry: versions of one model, in the order they were made, with aliases.

A registered version is the folder of a trained model in a run's artifacts: plain files, no MLflow
flavour, which would be a pickle. Its tags name the version that serves (the id of kuberec.json).
`candidate` is the latest that passed every gate up to the rollout, `champion` the latest that a
rollout promoted.
"""

import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recommender.files import atomic_directory, ensure_writable, read_json
from tracking.store import Store, TrackingError, explained

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE, CHAMPION = "candidate", "champion"
MODEL = "model"  # the trained model among a run's artifacts
VERSION_TAG = "kuberec.version"


@dataclass(frozen=True)
class Registered:
    """One version in the registry.

    Attributes:
        number: the registry's, from "1".
        version: id of the version that serves (kuberec.json).
        run: the training's.
        created: when it was registered, UTC.
    """

    store: Store
    model: str
    number: str
    version: str
    run: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    created: datetime

    def model_dir(self) -> Path:
        """The trained model (model.safetensors, model.json, vocabulary.json, training.json)."""
        return artifact(self.store, self.run, MODEL)


# What `evaluate` compares with.
@dataclass(frozen=True)
class Champion:
    """The version that a rollout promoted last.

    Attributes:
        version: its number in the registry.
        name: id of the version that serves (kuberec.json).
    """

    version: str
    name: str
    registered: Registered

    def model_dir(self) -> Path:
        """The trained model as `train` wrote it; of a server's, a copy in the state home's cache.

        Raises:
            TrackingError: its files cannot be had.
        """
        return self.registered.model_dir()


def champion(store: Store) -> Champion | None:
    """The champion of the store's model; None where nothing was promoted yet."""
    found = by_alias(store, CHAMPION)
    return None if found is None else Champion(found.number, found.version, found)


def artifact(store: Store, run: str, path: str) -> Path:
    """A folder of a run's artifacts as a local path; a server's is copied to the home's cache.

    Raises:
        TrackingError: it is not there.
    """
    here = store.artifacts(run, path)
    if here is not None:
        return here
    cached = store.home / "cache" / "mlflow" / run / path
    if not cached.exists():
        ensure_writable(cached.parent)
        with (
            tempfile.TemporaryDirectory(dir=cached.parent) as scratch,
            atomic_directory(cached) as draft,
        ):
            found = _download(store, run, path, Path(scratch))
            shutil.copytree(found, draft, dirs_exist_ok=True)
    return cached


def read_artifact(store: Store, run: str, path: str) -> Any:
    """The content of a run's JSON artifact.

    Raises:
        TrackingError: it is not there, or is not JSON.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = store.artifacts(run, path) or _download(store, run, path, Path(folder))
        try:
            return read_json(file)
        except (OSError, ValueError) as error:
            raise TrackingError(f"'{path}' of run {run} is not readable: {error}") from error


def _download(store: Store, run: str, path: str, folder: Path) -> Path:
    from mlflow.exceptions import MlflowException

    try:
        return Path(store.client.download_artifacts(run, path, str(folder)))
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"run {run} of MLflow at {store.shown} has no artifact '{path}': {error}\n  was it "
            "deleted? `kuberec run --no-cache` trains and writes it again"
        ) from error


def register(store: Store, run: str, version: str, tags: dict[str, str]) -> Registered:
    """Register the run's model as `version`; the one that is there, if it is the same."""
    for known in versions(store):
        if known.version == version and known.run == run:
            return known
    with explained(store):
        if not _has_model(store):
            store.client.create_registered_model(
                store.model, description="Versions of a recommender; served by Triton"
            )
        made = store.client.create_model_version(
            store.model,
            f"runs:/{run}/{MODEL}",
            run_id=run,
            tags={VERSION_TAG: version} | tags,
            description=f"version {version}",
            await_creation_for=0,
        )
    return _registered(store, made)


def versions(store: Store) -> list[Registered]:
    """All versions of the store's model, newest first."""
    name = store.model.replace("'", "''")
    found, token = [], None
    with explained(store):
        if not _has_model(store):
            return []
        aliases = _aliases(store)
        while True:
            page = store.client.search_model_versions(
                f"name='{name}'", max_results=200, page_token=token
            )
            found += [_registered(store, each, aliases) for each in page]
            token = page.token
            if not token:
                break
    return sorted(found, key=lambda each: int(each.number), reverse=True)


def models(store: Store) -> list[str]:
    """Names of the registered models."""
    with explained(store):
        return sorted(each.name for each in store.client.search_registered_models(max_results=500))


def by_alias(store: Store, alias: str) -> Registered | None:
    """The version that has the alias."""
    number = _aliases(store).get(alias)
    if number is None:
        return None
    with explained(store):
        return _registered(store, store.client.get_model_version(store.model, number))


def find(store: Store, name: str) -> Registered:
    """A version by its alias, its number in the registry, or the first letters of its id.

    Raises:
        TrackingError: there is none, or there are several.
    """
    known = versions(store)
    if not known:
        others = [each for each in models(store) if each != store.model]
        also = f"; models there: {', '.join(others)} (name one by --model)" if others else ""
        raise TrackingError(f"model '{store.model}' has no versions in {store.shown}{also}")
    for exact in (
        [each for each in known if name in each.aliases],
        [each for each in known if name == each.number],
        [each for each in known if name == each.version][:1],  # registered anew: the newest
        [each for each in known if len(name) >= 4 and each.version.startswith(name)],
    ):
        if len(exact) == 1:
            return exact[0]
        if exact:
            ids = ", ".join(f"{each.version} ({each.number})" for each in exact)
            raise TrackingError(f"version '{name}' can be any of {ids}; give more of its id")
    listed = ", ".join("/".join([each.number, each.version, *each.aliases]) for each in known[:10])
    raise TrackingError(
        f"model '{store.model}' has no version '{name}'. Allowed: a number, an id or an alias, of "
        f"{listed}{', …' if len(known) > 10 else ''}"
    )


def set_alias(store: Store, number: str, alias: str) -> str | None:
    """Give the alias to version `number`; the number of the one that had it, None for none."""
    before = _aliases(store).get(alias)
    with explained(store):
        store.client.set_registered_model_alias(store.model, alias, number)
    return before if before != number else None


def _has_model(store: Store) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        store.client.get_registered_model(store.model)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _aliases(store: Store) -> dict[str, str]:
    """Number by alias. Of the model: a search for versions leaves them out."""
    from mlflow.exceptions import MlflowException

    with explained(store):
        try:
            found = store.client.get_registered_model(store.model).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
    return {alias: str(number) for alias, number in found.items()}


def _registered(
    store: Store, found: "ModelVersion", aliases: dict[str, str] | None = None
) -> Registered:
    number = str(found.version)
    known: Any = _aliases(store) if aliases is None else aliases
    tags = dict(found.tags)
    return Registered(
        store=store,
        model=found.name,
        number=number,
        version=tags.get(VERSION_TAG, ""),
        run=found.run_id or "",
        aliases=tuple(sorted(alias for alias, each in known.items() if each == number)),
        tags=tags,
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
    )
