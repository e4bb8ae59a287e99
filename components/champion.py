"""The registry's champion after a rollout: the version that serves, here or on a cluster."""

from pathlib import Path

from recommender.files import read_json
from serving.embedded.state import ServingHome
from serving.rollout.record import Rollout
from serving.version import MANIFEST
from tracking.champion import Say, follow
from tracking.settings import TrackingConfig


def mark_serving(
    version: str,
    home: Path,
    say: Say,
    warn: Say,
    *,
    section: TrackingConfig | None = None,
    folder: Path | None = None,
) -> None:
    """Make `version`, which serves, the champion; tells what cannot be done, and never fails.

    Args:
        section: of a run's YAML, with its names.
        folder: the version's, where it is at hand; else the installed one, and on a cluster, whose
            versions lie in its model store, the registry is asked for the id.
    """
    installed = ServingHome(home).versions / version
    manifest = {"version": version}
    for path in (folder, installed):
        try:
            found = read_json(path / MANIFEST) if path else {}
        except (OSError, ValueError):
            continue
        if found.get("version") == version:
            manifest = found
            break
    follow(manifest, home, say, warn, section)


def serves_after(rollout: Rollout) -> str | None:
    """The version that a rollout left alone; None: it is undecided, or somebody took it over."""
    return {"promoted": rollout.canary, "rolled_back": rollout.stable}.get(rollout.status)
