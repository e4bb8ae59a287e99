"""What stops ingestion and validation, with messages that say what to do."""

from recommender.errors import KuberecError


class IngestError(KuberecError):
    """A source that cannot become a snapshot: names file and column, what there is, a way out."""


class ValidationFailed(KuberecError):
    """Expectations that did not hold; raised after Data Docs and validation.json are on disk."""
