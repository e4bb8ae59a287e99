"""The `tracking` section of a run's YAML. Light to import: MLflow is not needed for it."""

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from recommender.config import Section

# What MLflow itself reads; the section goes before it.
URI_VARIABLE = "MLFLOW_TRACKING_URI"
SCHEMES = ("http", "https")


class TrackingConfig(Section):
    """Where trainings and versions are written down.

    Nothing of it changes a result, so it is no part of a checkpoint's key or of a version's id.
    Credentials come from the environment (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or
    MLFLOW_TRACKING_TOKEN).
    """

    enabled: bool = True
    uri: str = Field(
        default="",
        description=f"http(s)://… of an MLflow server; by default {URI_VARIABLE}, and without that "
        "SQLite in the state home's mlflow/, the artifacts beside it",
    )
    experiment: str = Field(default="", description="groups the runs; by default the run's name")
    model: str = Field(
        default="",
        pattern=r"^[^/:]*$",
        description="registered model that versions are versions of; by default the run's name",
    )
    required: bool = Field(
        default=True,
        description="a server that does not answer ends the run; false: a warning, and what is "
        "missing is written when the version is exported",
    )

    @field_validator("uri")
    @classmethod
    def _server(cls, uri: str) -> str:
        return check_uri(uri) if uri else uri

    def named(self, run: str) -> "TrackingConfig":
        """With the run's name for names that were left out."""
        names = {"experiment": self.experiment or run, "model": self.model or run}
        return self.model_copy(update=names)


def check_uri(uri: str) -> str:
    """`uri` without a slash at its end.

    Raises:
        ValueError: it is no server's, or has credentials in it.
    """
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError(
            "allowed: http://host:port or https://host of an MLflow server, or nothing for SQLite "
            "in the state home"
        )
    if parts.username or parts.password:
        raise ValueError(
            "credentials do not belong in a config: leave them out of the address and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
        )
    return uri.rstrip("/")
