"""What `feast apply` registers: everything over the store that KUBEREC_FEATURE_STORE names.

`feast apply` deletes what is not defined here. So the FeatureServices are those of the state home's
versions and those that the registry has: a shared registry knows versions of other homes, and a
version that serves must not lose its features to somebody's `feast apply`.
"""

import os
from pathlib import Path

import click

from feature_repo.registered import definitions
from feature_repo.registry import registered_versions
from feature_repo.services import recommend_service
from feature_repo.store import EMBEDDED_SETTINGS, SETTINGS_VARIABLE, STORE_VARIABLE, versions

_folder = Path(os.environ[STORE_VARIABLE])
_context = click.get_current_context(silent=True)
_named = _context.obj.get("FS_YAML_FILE") if _context else None  # by `feast -f`
_settings = _named or os.environ.get(SETTINGS_VARIABLE) or EMBEDDED_SETTINGS
everything = definitions(_folder / "offline")
_known = [*versions(_folder), *registered_versions(Path(_settings), _folder)]
# Feast looks at a module's own names, not into lists.
globals().update(everything._asdict())
globals().update(
    (service.name, service)
    for service in (recommend_service(version, everything.history) for version in set(_known))
)
