"""One view into an online store: what to write, writing it, and remembering that it is in.

Killed at any point, the next run goes on from where the store itself says that the last one came
to: that is written with the rows, or after them. Only when all is in does the mark say so.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from feature_repo.config import EVENT_TIME
from feature_repo.materialize.changes import HASHED_BY, Changes, LatestRows
from feature_repo.materialize.encode import encode_rows
from feature_repo.materialize.live import Limits, drop_rebased, write_rebased
from feature_repo.materialize.state import Known, Running, Source, hashes, known, note, now
from feature_repo.stores.base import BulkRows, EncodedRows, Mark, StoreDown, TakenOver
from feature_repo.stores.layout import ViewLayout

HISTORY = "user_history"  # the view that live events change
_AT_ONCE = 2000  # rows
_ALWAYS_S = 253_370_764_800  # the year 9999: any row is before it
Tell = Callable[[int, int], None]


class Outcome(NamedTuple):
    """Of one view."""

    mode: str  # full, incremental, resumed, unchanged; older: the store's data is newer
    rows: int  # entities in the offline table
    written: int
    deleted: int
    live: int  # of the written ones, with live events on top
    seconds: float

    @property
    def rows_per_s(self) -> float:
        return self.written / self.seconds if self.seconds else 0.0


class _Plan(NamedTuple):
    mode: str
    before: Known  # what the store said
    base: Path | None  # hashes of what is in the store
    base_token: str | None
    place: int  # rows up to here are in
    written: int


class ViewRun:
    """Of one offline table into one store. Nothing is read before `run`."""

    def __init__(
        self, rows: BulkRows, layout: ViewLayout, source: Source, folder: Path, shared: bool
    ) -> None:
        """
        Args:
            folder: the feature store's, for hashes of what is in the store.
            shared: the store is read by more than this state home's model versions. Then data
                that is older than the store's replaces nothing, and entities that are no longer
                in the data stay until the next time.
        """
        self._rows, self._layout, self._source = rows, layout, source
        self._folder, self._shared = Path(folder), shared
        self._join_key = {HISTORY: "user_id"}.get(source.view, "item_id")
        self._hashed_by = f"{HASHED_BY}: {', '.join(sorted(layout.types))}"
        self._limits = Limits(source.covered_until_us, source.history_length)

    def run(self, scratch: Path, tell: Tell) -> Outcome:
        """Bring the store up to date; `tell(rows in, rows in all)`.

        Raises:
            StoreDown: saying how far it came. The next run goes on from there.
            TakenOver: another process materialises into this state home's own store.
        """
        started = time.monotonic()
        fingerprint = self._source.fingerprint()
        plan = self._plan(fingerprint, yielding=False)
        if plan.mode == "unchanged" and plan.base_token:
            rows = plan.before.rows or 0
            tell(rows, rows)
            confirmed = plan.before._replace(at=now())
            self._rows.put(EncodedRows([], [], {}), None, confirmed.mark(plan.base_token))
            note(self._folder, self._source.view, plan.base_token, confirmed)
            return Outcome("unchanged", rows, 0, 0, 0, time.monotonic() - started)
        features = list(self._layout.types)
        with LatestRows(self._source.table, self._join_key, features, scratch) as latest:
            try:
                outcome = self._follow(plan, latest, fingerprint, tell)
            except TakenOver:
                if not self._shared:
                    raise
                # The other's data is newer, and has the last word; or it has ended, or is older.
                plan = self._plan(fingerprint, yielding=True)
                outcome = self._follow(plan, latest, fingerprint, tell)
        return outcome._replace(seconds=time.monotonic() - started)

    def _plan(self, fingerprint: str, yielding: bool) -> _Plan:
        before = known(self._rows.mark())
        newest = before.newest_us
        if self._shared and newest is not None:
            ours = self._source.covered_until_us
            if newest > ours or (yielding and newest == ours):
                return _Plan("older", before, None, None, -1, 0)
        running = before.running
        if running is None:
            token = before.holds
            base = self._base(token, before)
            same = before.offline_fingerprint == fingerprint
            mode = "full" if base is None else "unchanged" if same else "incremental"
            return _Plan(mode, before, base, token if base else None, -1, 0)
        base = self._base(running.base, before)
        if running.offline_fingerprint == fingerprint and (base is None) == (running.base is None):
            return _Plan("resumed", before, base, running.base, running.place, running.written)
        # Of another's half nothing is known but that it is newer or older.
        return _Plan("full", before, None, None, -1, 0)

    def _base(self, token: str | None, before: Known) -> Path | None:
        if token is None or before.hashed_by != self._hashed_by:
            return None
        path = hashes(self._folder, self._source.view, token)
        return path if path.is_file() else None

    def _follow(self, plan: _Plan, latest: LatestRows, fingerprint: str, tell: Tell) -> Outcome:
        changes = latest.changes(plan.base)
        if plan.mode == "older":
            return self._fill_gaps(latest, changes, tell)
        token = uuid.uuid4().hex
        newest = plan.before.newest_us
        self._limits = self._limits._replace(
            covered_until_us=max(self._source.covered_until_us, newest or 0)
        )
        started = Running(
            fingerprint, plan.base_token, self._source.covered_until_us, plan.place, plan.written
        )
        running = plan.before._replace(
            holds=None, hashed_by=self._hashed_by, offline_fingerprint=None, running=started
        )
        present = [] if self._shared or plan.base else list(self._rows.ids())
        self._rows.claim(running.mark(token))
        # Rows with live events, which the data may cover by now and have otherwise, or not at all.
        noted = self._rows.noted() if self._source.view == HISTORY else {}
        places = latest.here(noted)
        visited = np.union1d(changes.places, np.array(list(places.values()), dtype=np.int64))
        written, live = self._write(latest, changes._replace(places=visited), running, token, tell)
        gone = self._gone(latest, changes, plan.base, present)
        if plan.base or not self._shared:
            gone = sorted({*gone, *self._never_there(latest, noted, plan.base)})
        deleted, left = self._delete(gone)
        ended = Known(
            holds=token,
            hashed_by=self._hashed_by,
            at=now(),
            rows=changes.total,
            covered_until_us=self._source.covered_until_us,
            offline_fingerprint=fingerprint,
        )
        target = hashes(self._folder, self._source.view, token)
        latest.keep(target, plan.base, remember=self._shared)
        self._rows.put(EncodedRows([], [], {}), None, ended.mark(token))
        note(self._folder, self._source.view, token, ended)
        seen = {each for each, place in places.items() if place > plan.place} | set(gone)
        settled = seen.intersection(noted) - set(live) - set(left)
        self._rows.settle({each: noted[each] for each in settled})
        return Outcome(plan.mode, changes.total, written, deleted, len(live), 0.0)

    def _write(
        self, latest: LatestRows, changes: Changes, running: Known, token: str, tell: Tell
    ) -> tuple[int, list[str]]:
        """Rows written in this run, and ids of those that have live events on top."""
        assert running.running
        place, before = running.running.place, running.running.written
        total = len(changes.places)
        done = total - int((changes.places > place).sum())
        tell(done, total)
        written = 0
        live: list[str] = []
        try:
            for last, table in latest.read(changes.places[done:], _AT_ONCE):
                encoded = self._encode(table)
                # The mark is behind by one part: rows with live events come after the others.
                progress = running.running._replace(place=place, written=before + written)
                live += self._put(encoded, running._replace(running=progress).mark(token))
                place = last
                written += len(encoded.ids)
                done += len(encoded.ids)
                tell(done, total)
        except StoreDown as error:
            raise StoreDown(
                f"{error} ({done:,} of {total:,} rows of '{self._source.view}' are in, the next "
                "run goes on from there)"
            ) from error
        return written, live

    def _encode(self, table: Any) -> EncodedRows:
        return encode_rows(table, self._join_key, EVENT_TIME, self._layout.types)

    def _put(self, encoded: EncodedRows, mark: Mark) -> list[str]:
        """Write rows; ids of those that have live events on top."""
        if self._source.view != HISTORY:
            self._rows.put(encoded, _ALWAYS_S, mark)
            return []
        before_s = self._limits.covered_until_us // 1_000_000
        left = self._rows.put(encoded, before_s, mark)
        return write_rebased(self._rows, encoded, left, self._limits) if left else []

    def _gone(
        self, latest: LatestRows, changes: Changes, base: Path | None, present: list[str]
    ) -> list[str]:
        """Entities whose rows are to go."""
        if self._shared:
            return changes.gone
        return latest.missing(base) if base else latest.not_here(present)

    def _never_there(
        self, latest: LatestRows, noted: Mapping[str, str], base: Path | None
    ) -> list[str]:
        """Entities that only live events know; who has just gone from the data is none of them."""
        others = latest.not_here(noted)
        just_gone = set(latest.missing(base)) if base and self._shared else set()
        return [each for each in others if each not in just_gone]

    def _delete(self, ids: list[str]) -> tuple[int, list[str]]:
        """How many rows were, and ids of those that live events keep."""
        deleted = 0
        left: list[str] = []
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            if self._source.view == HISTORY:
                count, kept = drop_rebased(self._rows, part, self._limits)
                deleted += count
                left += kept
            else:
                deleted += self._rows.delete(part)
        return deleted, left

    def _fill_gaps(self, latest: LatestRows, changes: Changes, tell: Tell) -> Outcome:
        """Of data older than the store's: only entities that it does not have."""
        written = done = 0
        for _, table in latest.read(changes.places, _AT_ONCE):
            encoded = self._encode(table)
            written += len(encoded.ids) - len(self._rows.put(encoded, None, None))
            done += len(encoded.ids)
            tell(done, changes.total)
        return Outcome("older", changes.total, written, 0, 0, 0.0)
