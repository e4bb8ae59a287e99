"""User ids as pseudonyms: HMAC-SHA256 (RFC 2104) of the id under a secret key.

Whoever has the key can tell a user's pseudonym, nobody can tell a user from a pseudonym without it,
and a user's events stay together. The key comes from the environment alone; what is written down
is its id, so that a changed key is noticed.
"""

import hashlib
import hmac
import os
from collections.abc import Callable

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from ingestion.engines.base import Keep
from ingestion.errors import IngestError
from ingestion.privacy.settings import PrivacyConfig
from recommender.schema import USER_ID

MIN_KEY_BYTES = 16  # 128 bits, as many as a pseudonym has
_DIGITS = 32  # hexadecimal


def user_key(config: PrivacyConfig) -> bytes | None:
    """The secret key that `user_key_env` names; None where ids stay as they are.

    Raises:
        IngestError: the variable is not set, or holds less than MIN_KEY_BYTES bytes.
    """
    name = config.user_key_env
    return None if name is None else read_key(name)


def read_key(name: str) -> bytes:
    """The key in the environment variable `name`, as its UTF-8 bytes.

    Raises:
        IngestError: as `user_key`.
    """
    key = os.environ.get(name, "").strip().encode()
    if len(key) < MIN_KEY_BYTES:
        found = f"has {len(key)} bytes" if key else "is not set"
        raise IngestError(
            f"environment variable {name} (source.privacy.user_key_env) {found}; pseudonyms need a "
            f"secret of at least {MIN_KEY_BYTES} bytes: make one by `openssl rand -hex 32`, keep "
            f"it where secrets are kept, and set {name} (on a cluster from a Kubernetes secret)"
        )
    return key


def key_id(key: bytes) -> str:
    """8 hexadecimal digits that tell keys apart and give none away."""
    return hashlib.sha256(b"kuberec user key\0" + key).hexdigest()[:8]


def pseudonym(user_id: str, key: bytes) -> str:
    """Of one user: 32 hexadecimal digits. `user_id` as in the source, without blanks around it."""
    return hmac.digest(key, user_id.strip().encode(), "sha256").hex()[:_DIGITS]


def pseudonymise(rows: ir.Table, key: bytes, keep: Keep, column: str = USER_ID) -> ir.Table:
    """`rows` with pseudonyms in place of the ids in `column`; null stays null.

    Every user is hashed once, however many rows there are.
    """

    def hashes(ids: pa.Array) -> pa.Array:
        return pa.array([pseudonym(each, key) for each in ids.to_pylist()], pa.string())

    # The name is the function's in the engine: one a key.
    change = ibis.udf.scalar.pyarrow(
        hashes, name=f"pseudonym_{key_id(key)}", signature=(("string",), "string")
    )
    return replace_users(rows, column, keep, change, f"pseudonyms_of_{column}")


def replace_users(
    rows: ir.Table, column: str, keep: Keep, change: Callable[[ir.Value], ir.Value], name: str
) -> ir.Table:
    """`rows` with `change`, an Ibis function of strings, of the ids in `column`.

    Args:
        name: of the table of ids that is kept meanwhile.
    """
    text = rows[column].cast("string")
    ids = rows.select(__user=text).distinct()
    ids = ids.filter(ids["__user"].notnull())
    # Kept: a function of Python's would be called again for each use of the expression.
    changed = keep(name, ids.mutate(__stored=change(ids["__user"])))
    joined = rows.left_join(changed, text == changed["__user"])
    return joined.select(
        **{each: joined["__stored"] if each == column else joined[each] for each in rows.columns}
    )
