"""Opening the feature store of a folder: registry.db, online.db, offline/, versions.json.

Where Feast's own variable FEAST_FS_YAML_FILE_PATH names a feature_store.yaml, as on a cluster, its
registry and its online store (Redis) take the place of the folder's.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from recommender.errors import KuberecError
from recommender.files import read_json

STORE_VARIABLE = "KUBEREC_FEATURE_STORE"
SETTINGS_VARIABLE = "FEAST_FS_YAML_FILE_PATH"
REPOSITORY = Path(__file__).parent
EMBEDDED_SETTINGS = REPOSITORY / "feature_store.yaml"


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


def own_settings() -> Path | None:
    """The feature_store.yaml that FEAST_FS_YAML_FILE_PATH names; None: the embedded store.

    Raises:
        KuberecError: there is no such file.
    """
    named = os.environ.get(SETTINGS_VARIABLE)
    if not named:
        return None
    if not Path(named).is_file():
        raise KuberecError(
            f"{SETTINGS_VARIABLE} names '{named}', which is no file: mount the ConfigMap "
            "'feature-store' there, or unset it for the embedded store"
        )
    return Path(named).absolute()


def registry_file(home: Path) -> Path:
    """Where the registry of a state home's feature store is.

    Raises:
        KuberecError: a store's own settings name none that is a file.
    """
    settings = own_settings()
    if settings is None:
        return store_folder(home) / "registry.db"
    registry = read_settings(settings)["registry"]
    path = str(registry.get("path", "") if isinstance(registry, dict) else registry or "")
    if not path or "://" in path or "$" in path:
        raise KuberecError(
            f"'{settings}': registry.path is '{path}'; a rollout publishes the registry with the "
            "model version, so it must be a file with every variable of its name set"
        )
    return settings.parent / path


def open_store(folder: Path, registry: Path | None = None) -> Any:
    """feast.FeatureStore of feature_store.yaml with `folder` as KUBEREC_FEATURE_STORE.

    The file is the one that FEAST_FS_YAML_FILE_PATH names, else this folder's.

    Args:
        registry: a file to use in place of the registry that the settings name.
    """
    return _open(own_settings() or EMBEDDED_SETTINGS, folder, registry)


def open_embedded(folder: Path) -> Any:
    """The store of `folder` alone, whatever FEAST_FS_YAML_FILE_PATH says."""
    return _open(EMBEDDED_SETTINGS, folder, None)


def _open(settings: Path, folder: Path, registry: Path | None) -> Any:
    import_feast()
    from feast import FeatureStore, RepoConfig

    raw = read_settings(settings, folder)
    if registry is not None:
        raw["registry"] = {"path": str(registry)}
    return FeatureStore(config=RepoConfig(**raw, repo_path=settings.parent))


def read_settings(settings: Path, folder: Path | None = None) -> dict[str, Any]:
    """A feature_store.yaml with its variables filled in, KUBEREC_FEATURE_STORE by `folder`.

    Raises:
        KuberecError: it cannot be read, or is none.
    """
    try:
        text = settings.read_text(encoding="utf-8")
        if folder is not None:
            text = text.replace(f"${{{STORE_VARIABLE}}}", str(Path(folder).absolute()))
        raw = yaml.safe_load(os.path.expandvars(text))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise KuberecError(f"'{settings}' cannot be read: {error}") from error
    if not isinstance(raw, dict) or "registry" not in raw:
        raise KuberecError(f"'{settings}' is no feature_store.yaml: it names no registry")
    return raw


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
