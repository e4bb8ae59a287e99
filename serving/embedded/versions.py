"""Installed model versions: verified copies below the serving home."""

import os
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
        os.utime(draft)  # the copy's own time, by which `prune` sorts
    return load_version(target, verify=False)


def prune(versions: Path, keep: int, in_use: Collection[str]) -> list[str]:
    """Delete the oldest installations beyond `keep`, never one `in_use`; returns their ids."""
    for unfinished in [*versions.glob(".*.partial"), *versions.glob(".*.old")]:
        shutil.rmtree(unfinished)  # of an installation that was killed
    removable = [path for path in versions.iterdir() if path.name not in in_use]
    removable.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    surplus = removable[max(0, keep - len(in_use)) :]
    for path in surplus:
        shutil.rmtree(path)
    return [path.name for path in surplus]
