"""Opening the feature store of a folder: registry.db, online.db, offline/, versions.json."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recommender.files import read_json

STORE_VARIABLE = "KUBEREC_FEATURE_STORE"
REPOSITORY = Path(__file__).parent


def store_folder(home: Path) -> Path:
    """Where the feature store lies in a state home."""
    return Path(home).absolute() / "feature_store"


def versions(folder: Path) -> list[str]:
    """Model versions with a FeatureService, oldest first."""
    path = Path(folder) / "versions.json"
    return list(read_json(path)) if path.is_file() else []


def service_name(version: str) -> str:
    """Of a model version's FeatureService."""
    return f"recommend_{version}"


def open_store(folder: Path) -> Any:
    """feast.FeatureStore of feature_store.yaml with `folder` as KUBEREC_FEATURE_STORE."""
    import_feast()
    from feast import FeatureStore
    from feast.repo_config import load_repo_config

    with _environment(STORE_VARIABLE, str(Path(folder).absolute())):
        config = load_repo_config(REPOSITORY, REPOSITORY / "feature_store.yaml")
    return FeatureStore(config=config)


def import_feast() -> Any:
    """`import feast` in less than half of its usual time (5 s for 11 on two cores).

    Two things that nothing here uses are left out, both as Feast itself does without them: torch,
    imported only to offer tensors as answers, as where it is not installed; and typeguard's
    instrumentation of Feast's classes, as under `python -O`. Modules imported already are not
    touched, and whatever is imported later finds everything as it was.
    """
    if "feast" in sys.modules:
        return sys.modules["feast"]
    import typeguard

    typechecked = typeguard.typechecked
    without_torch = "torch" not in sys.modules
    try:
        typeguard.typechecked = _unchecked
        if without_torch:
            sys.modules["torch"] = None  # type: ignore[assignment]  # as Python marks a missing one
        return importlib.import_module("feast")
    finally:
        typeguard.typechecked = typechecked
        if without_torch:
            del sys.modules["torch"]


def _unchecked(target: Any = None, **_: Any) -> Any:
    return target if target is not None else _unchecked


def release_duckdb() -> None:
    """Let go of the DuckDB connection that Ibis opened for Feast's offline store.

    It would keep its memory to the end, and complain there of leaks when torch is loaded too.
    """
    import ibis

    ibis.options.default_backend = None


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
