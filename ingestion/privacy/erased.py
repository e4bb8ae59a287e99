"""Who was erased, so that the next ingestion leaves them out: marks of ids, never the ids.

A mark is HMAC-SHA256 of the id as the source has it, under a random key of the state folder's own.
It is independent of the key of pseudonyms, so that a rotation brings nobody back. Whoever can read
the file can try ids; it is readable by its owner alone.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recommender.files import atomic_file, read_json, write_json

_NAME = "erased.json"


@dataclass(frozen=True)
class Erased:
    """Marks of erased users."""

    salt: bytes = b""
    marks: frozenset[str] = frozenset()

    def __contains__(self, user_id: object) -> bool:
        return bool(self.marks) and _mark(str(user_id), self.salt) in self.marks

    @property
    def fingerprint(self) -> str:
        """Changes with every user erased: part of what a snapshot depends on. "" for nobody."""
        text = "\n".join(sorted(self.marks))
        return hashlib.sha256(text.encode()).hexdigest() if self.marks else ""


def read_erased(state: Path | None) -> Erased:
    """Those of an ingestion's state folder; nobody where there is none."""
    path = None if state is None else Path(state) / _NAME
    if path is None or not path.is_file():
        return Erased()
    content = read_json(path)
    return Erased(bytes.fromhex(content["salt"]), frozenset(content["marks"]))


def remember_erased(state: Path, user_ids: Iterable[str]) -> None:
    """Add `user_ids`, as the source has them, to those of a state folder."""
    known = read_erased(state)
    salt = known.salt or secrets.token_bytes(32)
    marks = sorted(known.marks | {_mark(user_id, salt) for user_id in user_ids})
    path = Path(state) / _NAME
    with atomic_file(path) as draft:
        draft.touch(mode=0o600)
        write_json(draft, {"salt": salt.hex(), "marks": marks})
        draft.chmod(0o600)


def _mark(user_id: str, salt: bytes) -> str:
    return hmac.digest(salt, user_id.strip().encode(), "sha256").hex()
