"""What `feast apply` registers: everything over the store that KUBEREC_FEATURE_STORE names."""

import os
from pathlib import Path

from feature_repo.entities import item, user
from feature_repo.services import recommend_service
from feature_repo.store import STORE_VARIABLE, versions
from feature_repo.views import item_features, user_history

__all__ = ["history_view", "item", "item_view", "services", "user"]

_folder = Path(os.environ[STORE_VARIABLE])
history_view = user_history(_folder / "offline")
item_view = item_features(_folder / "offline")
services = [recommend_service(version, history_view) for version in versions(_folder)]
# Feast looks at a module's own names, not into lists.
globals().update({service.name: service for service in services})
