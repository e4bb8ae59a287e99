"""The events that offline data has of users in a log, in an engine's tables, under pseudonyms."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from feature_repo.offline import ABOUT, EVENTS
from recommender.errors import KuberecError
from recommender.files import read_json
from recommender.pseudonyms import DIGITS

_BLOCK = 64  # bytes, of SHA-256


class Events(NamedTuple):
    """Where events are, and what is known of them.

    `query`: SQL of user_id, item_id, timestamp, event_time, as feature_repo.offline has them.
    `covered_until_us`: the data has every event up to then, µs since 1970.
    """

    query: str
    history_length: int
    covered_until_us: int


def offline_events(folder: Path) -> Events:
    """Of offline tables, or of training windows with them in their folder `offline`.

    Raises:
        KuberecError: there are none.
    """
    folder = Path(folder)
    place = folder / "offline" if (folder / "offline" / ABOUT).is_file() else folder
    if not (place / EVENTS).is_file() or not (place / ABOUT).is_file():
        raise KuberecError(
            f"'{folder}' has no {EVENTS} and {ABOUT}: name a run, its windows folder or offline "
            "tables; what a kuberec of before wrote has none, run the pipeline again"
        )
    about = read_json(place / ABOUT)
    path = str((place / EVENTS).absolute()).replace("'", "''")
    return Events(
        f"SELECT user_id, item_id, timestamp, event_time FROM read_parquet('{path}')",
        int(about["history_length"]),
        int(about["covered_until_us"]),
    )


def load_events(connection: Any, events: Events, files: Sequence[str], key: bytes) -> int:
    """Make the tables `items`, `known` and `histories` of the users in the log's `files`.

    - items(item): all that the data has an event of.
    - known(user_id, number, item, time_us, event_us, copy): a user's events, numbered from 1 in the
      order of a history; `copy` counts those of one item and time.
    - histories(user_id, items, times): the same as one list a user.

    The engine makes the pseudonyms too: HMAC(K, m) = H(K ⊕ opad ‖ H(K ⊕ ipad ‖ m)) (RFC 2104).

    Returns:
        The time of the oldest event of all, µs since 1970; 0 without any.
    """
    inner, outer = _pads(key)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE named AS
        SELECT * FROM (
            SELECT id, substr(sha256($outer || unhex(sha256($inner || encode(id)))), 1, {DIGITS})
                AS user_id
            FROM (SELECT DISTINCT user_id AS id FROM ({events.query}))
        ) SEMI JOIN read_parquet($files) USING (user_id)
        """,
        {"inner": inner, "outer": outer, "files": list(files)},
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE items AS SELECT DISTINCT item_id AS item "
        f"FROM ({events.query})"
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE known AS
        SELECT named.user_id, item_id AS item, epoch_us(timestamp) AS time_us,
            epoch_us(event_time) AS event_us,
            row_number() OVER (PARTITION BY id ORDER BY event_time) AS number,
            row_number() OVER (PARTITION BY id, timestamp, item_id ORDER BY event_time) AS copy
        FROM ({events.query}) AS event JOIN named ON event.user_id = named.id
        """
    )
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE histories AS
        SELECT user_id, list(item ORDER BY number) AS items, list(time_us ORDER BY number) AS times
        FROM known GROUP BY user_id
        """
    )
    oldest = connection.execute(f"SELECT min(epoch_us(timestamp)) FROM ({events.query})")
    return int(oldest.fetchone()[0] or 0)


def _pads(key: bytes) -> tuple[bytes, bytes]:
    import hashlib

    block = (key if len(key) <= _BLOCK else hashlib.sha256(key).digest()).ljust(_BLOCK, b"\0")
    return bytes(each ^ 0x36 for each in block), bytes(each ^ 0x5C for each in block)
