"""One FeatureService a model version: the user features that it is trained on and served with.

Item features are read from their view; they have another entity.
"""

from feast import FeatureService, FeatureView, OnDemandFeatureView

from feature_repo.store import service_name

TRAINING = "training"  # stands for a version that is still to be made
ANALYSIS = "user_analysis"
VERSION_TAG = "model_version"


def recommend_service(version: str, user_history: FeatureView) -> FeatureService:
    """The features of model version `version`."""
    return FeatureService(
        name=service_name(version),
        features=[user_history[["history", "event_count"]]],
        description=f"what model version {version} reads of a user",
        owner=user_history.owner,
        tags={VERSION_TAG: version},
    )


def analysis_service(user_history: FeatureView, activity: OnDemandFeatureView) -> FeatureService:
    """All there is of a user, for people and notebooks; no model version reads it."""
    return FeatureService(
        name=ANALYSIS,
        features=[user_history, activity],
        description="a user's whole row, and what it tells at a glance",
        owner=user_history.owner,
    )
