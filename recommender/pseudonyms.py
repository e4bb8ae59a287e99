"""User ids as pseudonyms: HMAC-SHA256 (RFC 2104) of the id under a secret key.

Whoever has the key can tell a user's pseudonym, nobody can tell a user from a pseudonym without it,
and a user's events stay together. The key comes from the environment alone; what is written down
is its id, so that a changed key is noticed.
"""

import hashlib
import hmac
import os

from recommender.errors import KuberecError

MIN_KEY_BYTES = 16  # 128 bits, as many as a pseudonym has
DIGITS = 32  # hexadecimal


class KeyMissing(KuberecError):
    """A secret key that is not in the environment, or too short to be one."""


def read_key(name: str, setting: str) -> bytes:
    """The key in the environment variable `name`, as its UTF-8 bytes.

    Args:
        setting: the key of the config that names the variable, for the message.

    Raises:
        KeyMissing: the variable is not set, or holds less than MIN_KEY_BYTES bytes.
    """
    key = os.environ.get(name, "").strip().encode()
    if len(key) < MIN_KEY_BYTES:
        found = f"has {len(key)} bytes" if key else "is not set"
        raise KeyMissing(
            f"environment variable {name} ({setting}) {found}; pseudonyms need a secret of at "
            f"least {MIN_KEY_BYTES} bytes: make one by `openssl rand -hex 32`, keep it where "
            f"secrets are kept, and set {name} (on a cluster from a Kubernetes secret)"
        )
    return key


def key_id(key: bytes) -> str:
    """8 hexadecimal digits that tell keys apart and give none away."""
    return hashlib.sha256(b"kuberec user key\0" + key).hexdigest()[:8]


def pseudonym(user_id: str, key: bytes) -> str:
    """Of one user: 32 hexadecimal digits. `user_id` as in the source, without blanks around it."""
    return hmac.digest(key, user_id.strip().encode(), "sha256").hex()[:DIGITS]
