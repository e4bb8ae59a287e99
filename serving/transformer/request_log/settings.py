"""The section `serving.transformer.request_log`; light to import."""

from pydantic import Field

from recommender.config import Section

KEY_SETTING = "serving.transformer.request_log.user_key_env"


class RequestLogConfig(Section):
    """Which answers are kept with the features that they came from, where, and for how long."""

    share: float = Field(
        default=0.0, ge=0, le=1, description="of clients' requests, whole ones; 0 = none"
    )
    user_key_env: str = Field(
        default="KUBEREC_LOG_KEY",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable with the secret key of users' pseudonyms; without it "
        "nothing is logged",
    )
    folder: str | None = Field(
        default=None,
        min_length=1,
        description="by default 'request_log' in the state home; on a cluster the path of a "
        "mounted volume",
    )
    max_rows_per_file: int = Field(
        default=10_000, ge=1, le=1_000_000, description="rows after which a file is written"
    )
    flush_s: float = Field(
        default=60.0,
        ge=0.05,
        description="seconds after which one is written anyway: what a killed process loses",
    )
    keep_days: int = Field(default=14, ge=1, description="days after which a day is deleted")
    max_bytes: int = Field(
        default=2_000_000_000,
        ge=1_000_000,
        description="size of the folder from which on the oldest days go earlier",
    )
