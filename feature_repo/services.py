"""One FeatureService a model version: the user features that it is trained on and served with.

Item features are read from their view; they have another entity.
"""

from feast import FeatureService, FeatureView

from feature_repo.store import service_name

TRAINING = "training"  # stands for a version that is still to be made


def recommend_service(version: str, user_history: FeatureView) -> FeatureService:
    """The features of model version `version`."""
    return FeatureService(
        name=service_name(version), features=[user_history[["history", "event_count"]]]
    )
