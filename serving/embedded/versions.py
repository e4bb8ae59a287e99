"""Installed model versions: verified copies below the serving home."""

import shutil
from collections.abc import Collection
from pathlib import Path

from recommender.files import atomic_directory
from serving.version import ModelVersion, VersionError, load_version


def install(source: Path, versions: Path, in_use: Collection[str]) -> ModelVersion:
    """Copy a model version to `versions`/<id>, verified before and after; done once.

    Raises:
        VersionError: the source is not as it was sealed, or another version of the same id is
            `in_use`.
    """
    version = load_version(source)
    target = versions / version.version
    if target.is_dir():
        try:
            installed = load_version(target)
            if installed.files == version.files:
                return installed
        except VersionError:
            pass  # damaged here: replaced by the good copy below
        else:
            if version.version in in_use:
                raise VersionError(
                    f"another model version with the id {version.version} is in use, with other "
                    f"files than '{source}': an id must belong to one content"
                )
    with atomic_directory(target) as draft:
        shutil.copytree(source, draft, dirs_exist_ok=True)
        load_version(draft)
    return load_version(target, verify=False)


def installed(versions: Path) -> list[ModelVersion]:
    """All installed versions, latest installation first; files are not verified."""
    folders = [path for path in versions.glob("*") if (path / "kuberec.json").is_file()]
    folders.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [load_version(path, verify=False) for path in folders]


def prune(versions: Path, keep: int, in_use: Collection[str]) -> list[str]:
    """Delete the oldest installations beyond `keep`, never one `in_use`; returns their ids."""
    removable = [v for v in installed(versions) if v.version not in in_use]
    surplus = removable[max(0, keep - len(in_use)) :]
    for version in surplus:
        shutil.rmtree(version.directory)
    return [version.version for version in surplus]
