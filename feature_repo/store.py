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
_SQLITE_URL = "sqlite:///"


def store_folder(home: Path) -> Path:
    """Where the feature store lies in a state home."""
    return Path(home).absolute() / "feature_store"


def versions(folder: Path) -> list[str]:
    """Model versions with a FeatureService, oldest first."""
    path = Path(folder) / "versions.json"
    return list(read_json(path)) if path.is_file() else []


def nothing_there(folder: Path) -> KuberecError:
    """That nothing has been materialised into a store's folder."""
    return KuberecError(
        f"no feature store in '{folder}': run a pipeline first (`kuberec run CONFIG`), or set "
        "KUBEREC_HOME to the state folder of one"
    )


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


def registry_place(settings: Path, folder: Path | None = None) -> Path | str:
    """Where the registry of a feature_store.yaml is: a file of this machine, or a URL.

    A URL is of a database (`registry_type: sql`) or of a bucket; it is shared, and Feast alone
    writes there. With a database named by libpq's variables it is `postgresql+psycopg://`.

    Raises:
        KuberecError: the settings cannot be read, name no registry, or one with a variable that is
            not set.
    """
    registry = read_settings(settings, folder)["registry"]
    path = str(registry.get("path", "") if isinstance(registry, dict) else registry or "")
    if not path or "$" in path:
        raise KuberecError(
            f"'{settings}': registry.path is '{path}': name a file or a database, and set every "
            "variable of the name"
        )
    return path if "://" in path else settings.parent / path


def registry_file(home: Path) -> Path:
    """The registry that a rollout publishes with a model version of this state home.

    It is the registry itself where that is a file; of one in a database it is a copy, which
    materialisation leaves in the state home (feature_repo.registry.write_snapshot).

    Raises:
        KuberecError: as of `registry_place`.
    """
    settings = own_settings()
    place = registry_place(settings) if settings else None
    return place if isinstance(place, Path) else store_folder(home) / "registry.db"


def open_store(folder: Path, registry: Path | None = None) -> Any:
    """feast.FeatureStore of feature_store.yaml with `folder` as KUBEREC_FEATURE_STORE.

    The file is the one that FEAST_FS_YAML_FILE_PATH names, else this folder's.

    Args:
        registry: a file to use in place of the registry that the settings name.

    Raises:
        KuberecError: settings that Feast does not take, a registry that cannot be read or reached.
    """
    return _open(own_settings() or EMBEDDED_SETTINGS, folder, registry)


def open_embedded(folder: Path) -> Any:
    """The store of `folder` alone, whatever FEAST_FS_YAML_FILE_PATH says."""
    return _open(EMBEDDED_SETTINGS, folder, None)


def _open(settings: Path, folder: Path, registry: Path | None) -> Any:
    from feature_repo.registry import make_store

    raw = read_settings(settings, folder)
    if registry is not None:
        raw["registry"] = {"path": str(registry)}
    place_files(raw, settings.parent)
    return make_store(raw, str(settings), settings.parent)


def place_files(raw: dict[str, Any], home: Path) -> list[Path]:
    """Files of this machine that a store consists of; their paths in `raw` become absolute.

    Feast itself looks for a relative registry in the working directory.
    """
    if not isinstance(raw["registry"], dict):
        raw["registry"] = {"path": str(raw["registry"] or "")}
    sections = [raw["registry"]]
    online = raw.setdefault("online_store", {"type": "sqlite"})
    if isinstance(online, dict) and online.get("type", "sqlite") == "sqlite":
        online.setdefault("path", "data/online.db")
        sections.append(online)
    files = []
    for section in sections:
        place = str(section.get("path", ""))
        path = place.removeprefix(_SQLITE_URL)
        if path and "://" not in path:
            files.append(home / path)
            section["path"] = place[: len(place) - len(path)] + str(files[-1])
    return files


def read_settings(settings: Path, folder: Path | None = None) -> dict[str, Any]:
    """A feature_store.yaml with its variables filled in, KUBEREC_FEATURE_STORE by `folder`.

    Variables are filled in where YAML has its values: a password may have any character.

    Raises:
        KuberecError: it cannot be read, or is none.
    """
    try:
        raw = yaml.safe_load(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise KuberecError(f"'{settings}' cannot be read: {error}") from error
    if not isinstance(raw, dict) or "registry" not in raw:
        raise KuberecError(f"'{settings}' is no feature_store.yaml: it names no registry")
    return dict(_fill_in(raw, {STORE_VARIABLE: str(Path(folder).absolute())} if folder else {}))


def _fill_in(value: Any, given: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill_in(each, given) for key, each in value.items()}
    if isinstance(value, list):
        return [_fill_in(each, given) for each in value]
    if not isinstance(value, str):
        return value
    for name, content in given.items():
        value = value.replace(f"${{{name}}}", content)
    return os.path.expandvars(value)


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
