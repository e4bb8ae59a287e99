"""Everything that the registry has besides the FeatureServices of model versions."""

from pathlib import Path
from typing import NamedTuple

from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView

from feature_repo.activity import user_activity
from feature_repo.entities import item, user
from feature_repo.services import analysis_service
from feature_repo.views import item_features, user_history


class Definitions(NamedTuple):
    """Feast's objects; all of them are to be applied together, the views refer to the entities."""

    user: Entity
    item: Entity
    history: FeatureView
    items: FeatureView
    activity: OnDemandFeatureView
    analysis: FeatureService


def definitions(offline: Path) -> Definitions:
    """Over the offline tables in the folder `offline`."""
    history = user_history(offline)
    activity = user_activity(history)
    return Definitions(
        user=user,
        item=item,
        history=history,
        items=item_features(offline),
        activity=activity,
        analysis=analysis_service(history, activity),
    )
