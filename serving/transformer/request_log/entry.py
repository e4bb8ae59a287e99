"""One answered request on its way to the log, and many as a table's rows.

Nothing is converted while the request is answered: an entry points at what there is anyway.
"""

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from feature_repo.replay.log_files import SCHEMA
from recommender.pseudonyms import pseudonym
from serving.transformer.features import FeatureStatus, UserFeatures
from serving.transformer.merging import Ranking
from serving.transformer.request import Ask
from serving.transformer.wire import unpack

_ID_BYTES = 64  # of an id that the store gave, as Python holds it


class Entry(NamedTuple):
    """A request with its answer; times in microseconds since 1970."""

    request_id: str  # "": the client gave none
    ask: Ask
    users: Sequence[UserFeatures]
    ranking: Ranking
    received_us: int
    as_of_us: int
    latency_ms: float
    view: str

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory, roughly."""
        sent = sum(len(each) for row in self.ask.exclude or () for each in row)
        for user in self.users:
            given = user.status == FeatureStatus.GIVEN
            sent += sum(map(len, user.history)) if given else 0
            sent += _ID_BYTES * (1 + len(user.history))
        return sent + len(self.ranking.item_ids) + len(self.ranking.scores)


class Served(NamedTuple):
    """What is the same for every row of one process."""

    version: str
    service: str
    key: bytes
    key_id: str


def as_rows(entries: Sequence[Entry], served: Served) -> pa.RecordBatch:
    """feature_repo.replay.log_files.SCHEMA, one row a user of a request."""
    rows = [row for entry in entries for row in _rows(entry, served)]
    columns = zip(*rows, strict=True) if rows else ([] for _ in SCHEMA)
    arrays = [
        pa.array(list(column), type=field.type)
        for column, field in zip(columns, SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _rows(entry: Entry, served: Served) -> Sequence[tuple[Any, ...]]:
    ask, width = entry.ask, entry.ranking.width
    columns = width if ask.k is None else min(ask.k, width)
    items = unpack(entry.ranking.item_ids)
    scores = np.frombuffer(entry.ranking.scores, dtype="<f4").reshape(-1, width).tolist()
    request_id = entry.request_id or uuid.uuid4().hex
    found = []
    for number, user in enumerate(entry.users):
        begin = number * width
        answer = [item for item in items[begin : begin + columns] if item]  # "" pads short ones
        found.append(
            (
                request_id,
                number,
                entry.received_us,
                entry.as_of_us,
                None if ask.user_ids is None else pseudonym(ask.user_ids[number], served.key),
                served.key_id,
                entry.view,
                served.service,
                served.version,
                [each for each in user.history if each],  # the padding of a client's tensor
                None if user.times is None else list(user.times),
                None if user.event_time is None else round(user.event_time * 1e6),
                user.age_s,
                str(user.status),
                answer,
                scores[number][: len(answer)],
                ask.k,
                [] if ask.exclude is None else [each for each in ask.exclude[number] if each],
                entry.latency_ms,
            )
        )
    return found
