"""What serving was given against what these events say it should have been: `validation.skew`."""

from pydantic import Field

from recommender.config import Section


class SkewConfig(Section):
    """Logged requests, replayed on the snapshot before anything is trained on it.

    Here and not in `features`, whose values make a model version another one: a limit does not.
    """

    log: str | None = Field(
        None,
        min_length=1,
        description="folder of the request log (serving.transformer.request_log), relative to the "
        "state home; none = not checked",
    )
    max_share: float = Field(
        0.001, ge=0, le=1, description="of compared rows; the share that is skew stays below it"
    )
    min_rows: int = Field(
        1000, ge=1, description="compared rows, with fewer of which nothing is concluded"
    )
    since_days: float = Field(7, gt=0, description="days back from now that are looked at")
    allow_lag_h: float = Field(
        48, ge=0, description="hours for which an event may be missing online: freshness, not skew"
    )
    user_key_env: str = Field(
        "KUBEREC_LOG_KEY",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable with the key of the log's pseudonyms",
    )
