"""The alias `champion` follows what serves, whoever changed that.

Called once it is changed, by a rollout's step, an operator's decision or a way back: nothing
here undoes it or lets it fail. What cannot be set is told, with the command that sets it later.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tracking.registry import CHAMPION, by_alias, set_alias
from tracking.settings import URI_VARIABLE, TrackingConfig
from tracking.store import TrackingError, exists, exists_own, open_store
from tracking.versions import registered_version

Say = Callable[[str], None]


class NotRegistered(TrackingError):
    """The version has no number, so that no alias can name it."""


def follow(
    manifest: Mapping[str, Any],
    home: Path,
    say: Say,
    warn: Say,
    section: TrackingConfig | None = None,
) -> None:
    """Make the version that serves the champion of its model, if it is not that yet.

    Args:
        manifest: its kuberec.json, which names the registry and the number there; {"version": id}
            where nothing else is known of it.
        home: the state home.
        say: told who is champion now.
        warn: told why nobody became it, and what to run.
        section: of a run's YAML, with its names: the registry where the manifest names none.
    """
    if section is not None and not section.enabled:
        return
    head = f"version {manifest['version']} serves, but is not marked as {CHAMPION}"
    later = f"\n  to mark it later: {command(manifest, section)}"
    try:
        _follow(manifest, home, say, section)
    except NotRegistered as error:
        warn(f"{head}: {error}")
    except TrackingError as error:
        warn(f"{head}: {error}{later}")
    except Exception as error:  # a full disk, a locked database: what serves is not put back for it
        warn(f"{head}: {type(error).__name__}: {error}{later}")


def command(manifest: Mapping[str, Any], section: TrackingConfig | None = None) -> str:
    """What marks the version as champion by hand."""
    said = manifest.get("tracking") or {}
    name = said.get("registered") or manifest["version"]
    model = said.get("model") or (section.model if section else "")
    uri = said.get("uri", section.uri if section else "")
    # Of the state home's own, which the environment's server would hide.
    hidden = bool(said) and not uri and bool(os.environ.get(URI_VARIABLE))
    before = f"{URI_VARIABLE}={uri} " if uri or hidden else ""
    return f"{before}kuberec models promote {name}" + (f" --model {model}" if model else "")


def _follow(
    manifest: Mapping[str, Any], home: Path, say: Say, section: TrackingConfig | None
) -> None:
    version, said = manifest["version"], manifest.get("tracking")
    config, own = section or TrackingConfig(), False
    if said:
        names = {name: said[name] for name in ("uri", "experiment", "model")}
        own = not said["uri"] and exists_own(home)
        if said["uri"] or own:
            config = TrackingConfig(**names)
    if not own and not exists(config, home):
        if not said:
            return  # nothing is tracked here
        raise TrackingError(
            f"it is number {said['registered']} of '{said['model']}' in the registry of the state "
            f"home that it was made in, and '{home}' has none"
        )
    if section is None and not said:
        raise NotRegistered("it was exported without tracking")
    store = open_store(config, home, own=own)
    found = registered_version(store, manifest)
    if found is None:
        raise NotRegistered(
            f"model '{store.model}' has no such version in MLflow at {store.shown}; of one with "
            "new items its parent is registered, of another `kuberec run --no-cache` registers it"
        )
    before = by_alias(store, CHAMPION)
    if before is not None and before.number == found.number:
        return
    set_alias(store, found.number, CHAMPION)
    was = f" (it was version {before.number}, {before.version})" if before else ""
    say(f"version {found.number} ({version}) of '{found.model}' is {CHAMPION} now{was}")
