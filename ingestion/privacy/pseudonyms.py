"""Pseudonyms of a source's users: recommender.pseudonyms under the key that its config names."""

from ingestion.errors import IngestError
from ingestion.privacy.settings import PrivacyConfig
from recommender import pseudonyms
from recommender.pseudonyms import key_id, pseudonym

__all__ = ["key_id", "pseudonym", "read_key", "user_key"]


def user_key(config: PrivacyConfig) -> bytes | None:
    """The secret key that `user_key_env` names; None where ids stay as they are.

    Raises:
        IngestError: the variable is not set, or is too short for a key.
    """
    name = config.user_key_env
    return None if name is None else read_key(name)


def read_key(name: str) -> bytes:
    """The key in the environment variable `name`, as its UTF-8 bytes.

    Raises:
        IngestError: as `user_key`.
    """
    try:
        return pseudonyms.read_key(name, "source.privacy.user_key_env")
    except pseudonyms.KeyMissing as error:
        raise IngestError(str(error)) from error
