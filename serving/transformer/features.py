"""Users' histories for an answer: within a deadline, no older than allowed, whatever happens.

Every user looked up gets a FeatureStatus; where the store fails, all get an empty history, for
which the model answers popular items. What happened is in the status, in the metrics and, when it
begins and ends, in the log.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from feature_repo.online.reader import StoredFeatures
from serving.settings import TransformerConfig, ViewFreshness
from serving.transformer import feature_metrics, metrics
from serving.transformer.errors import RequestFailed
from serving.transformer.reader_keeper import Reader, ReaderKeeper, describe

log = logging.getLogger("kuberec.features")
# So many failures in a row, and the store is only asked now and then until it answers again:
# who asks is not made to wait for the whole deadline, and the store not made to work for nobody.
_FAILURES_TO_REST = 16
_REST_S = 0.5
# A store may fail at every other lookup: so long nothing more is logged of further failures.
_SILENCE_S = 60.0


class FeatureStatus(StrEnum):
    """Where a user's history comes from, as the answer says."""

    OK = "ok"
    STALE = "stale"
    GIVEN = "given"
    UNKNOWN = "unknown"
    FALLBACK_STALE = "fallback_stale"
    FALLBACK_TIMEOUT = "fallback_timeout"
    FALLBACK_ERROR = "fallback_error"
    FALLBACK_UNAVAILABLE = "fallback_unavailable"

    @property
    def reason(self) -> str:
        """The fallback's cause, as metrics name it."""
        return self.removeprefix("fallback_")


_LOOKUPS = {status: metrics.LOOKUPS.labels(status) for status in FeatureStatus}


class UserFeatures(NamedTuple):
    """What one row of a request is answered from."""

    history: Sequence[str] | Sequence[bytes]  # raw item ids, oldest first
    age_s: float  # -1 where no stored row was read
    status: FeatureStatus
    event_time: float | None = None  # of the stored row, Unix time
    times: Sequence[int] | None = None  # of each of `history`, where they are read


class FeaturesRejected(RequestFailed):
    """Features that the settings do not accept: FAILED_PRECONDITION (age), UNAVAILABLE (store)."""


class _StoreFailed(Exception):
    """Nothing could be read."""

    def __init__(self, status: FeatureStatus, cause: str) -> None:
        super().__init__(cause)
        self.status, self.cause = status, cause


class FeatureSource:
    """Feature lookup of one event loop.

    Args:
        config: deadline, freshness limits, and what to do when the store fails.
        open_reader: opens the store; may block, and raise. Called in a thread of its own.
        clock: now, as Unix time.
        reopen_s: least time between two attempts to open the store.
    """

    def __init__(
        self,
        config: TransformerConfig,
        open_reader: Callable[[], Reader],
        clock: Callable[[], float] = time.time,
        reopen_s: float = 3.0,
    ) -> None:
        self._config, self._clock = config, clock
        # By the time that a failed reader is closed, nobody waits for it any more.
        self._keeper = ReaderKeeper(open_reader, reopen_s, config.lookup_timeout_s)
        self._failures = 0  # in a row
        self._last_failure = (FeatureStatus.FALLBACK_ERROR, "")
        self._ask_again = 0.0  # time of the loop
        self._told, self._silent_until = False, 0.0
        for view, rule in config.freshness.items():
            metrics.BEYOND_LIMIT.labels(view, rule.policy)
            metrics.FEATURE_AGE_SECONDS.labels(view)

    @property
    def view(self) -> str:
        """Name of the feature view that is read; "" before a store is open."""
        reader = self._keeper.reader
        return reader.view if reader else ""

    @property
    def opening(self) -> bool:
        """Whether the first attempt to open the store is still under way."""
        return self._keeper.opening

    async def start(self) -> None:
        """Begin to open the store, in the background."""
        self._keeper.start()

    async def close(self) -> None:
        """Let go of the store; reads under way fail."""
        await self._keeper.close()

    async def lookup(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        """The features of each user, in order.

        Takes no longer than `lookup_timeout_s`.

        Raises:
            FeaturesRejected: the settings say `reject`, for a row that is too old or for a store
                that fails.
        """
        try:
            reader = self._keeper.reader
            if reader is None:
                raise _StoreFailed(FeatureStatus.FALLBACK_UNAVAILABLE, self._keeper.cause)
            rows = await self._read(reader, user_ids)
            found = self._judge(reader.view, user_ids, rows)
        except _StoreFailed as failure:
            found = self._without_store(failure, len(user_ids))
        for row in found:
            metrics.count(_LOOKUPS[row.status])
        return found

    async def _read(self, reader: Reader, user_ids: Sequence[str]) -> list[StoredFeatures]:
        now = asyncio.get_running_loop().time()
        if self._failures >= _FAILURES_TO_REST:
            if now < self._ask_again:
                raise _StoreFailed(*self._last_failure)
            self._ask_again = now + _REST_S
        try:
            with metrics.LOOKUP_SECONDS.time():
                rows = await self._read_in_time(reader, user_ids)
        except _StoreFailed as failure:
            self._failed(failure)
            raise
        if self._told:
            log.info("the feature store answers again, after %d failed lookups", self._failures)
        self._told, self._failures = False, 0
        return rows

    async def _read_in_time(self, reader: Reader, user_ids: Sequence[str]) -> list[StoredFeatures]:
        read = asyncio.ensure_future(reader.read(user_ids))
        late = False

        def stop() -> None:
            # An answer that is there by now counts, as after a busy moment of this process:
            # asyncio.timeout would throw it away.
            nonlocal late
            late = read.cancel()

        limit = self._config.lookup_timeout_s
        timer = asyncio.get_running_loop().call_later(limit, stop)
        try:
            return await read
        except asyncio.CancelledError:
            if not late or asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise  # who asked has gone
            cause = f"no answer within {limit * 1e3:g} ms"
            raise _StoreFailed(FeatureStatus.FALLBACK_TIMEOUT, cause) from None
        except TimeoutError as error:  # of the store's own library
            raise _StoreFailed(FeatureStatus.FALLBACK_TIMEOUT, f"timeout: {error}") from error
        except Exception as error:
            self._keeper.reopen()
            raise _StoreFailed(FeatureStatus.FALLBACK_ERROR, describe(error)) from error
        finally:
            timer.cancel()

    def _failed(self, failure: _StoreFailed) -> None:
        now = asyncio.get_running_loop().time()
        if not self._told and now >= self._silent_until:
            log.warning("the feature store fails: %s", failure.cause)
            self._told, self._silent_until = True, now + _SILENCE_S
        self._failures += 1
        self._last_failure = (failure.status, failure.cause)
        if self._failures == _FAILURES_TO_REST:
            self._ask_again = now + _REST_S

    def _without_store(self, failure: _StoreFailed, count: int) -> list[UserFeatures]:
        reason = failure.status.reason
        if self._config.store_failure == "reject":
            metrics.count(metrics.REJECTED.labels(reason))
            raise FeaturesRejected(
                f"feature store: {failure.cause}; ask again later, or send 'history' along "
                "(serving.transformer.store_failure is 'reject')",
                "UNAVAILABLE",
            )
        metrics.count(metrics.FALLBACKS.labels(reason), count)
        return [UserFeatures([], -1.0, failure.status)] * count

    def _judge(
        self, view: str, user_ids: Sequence[str], rows: Sequence[StoredFeatures]
    ) -> list[UserFeatures]:
        """Apply the view's freshness limit."""
        rule = self._config.freshness.get(view, ViewFreshness())
        ages = metrics.FEATURE_AGE_SECONDS.labels(view)
        now, counted = self._clock(), metrics.of_client.get()
        found = []
        for user, (history, event_time, times) in zip(user_ids, rows, strict=True):
            if event_time is None:
                found.append(UserFeatures(history, -1.0, FeatureStatus.UNKNOWN))
                continue
            feature_metrics.saw(view, min(event_time, now))
            age = max(0.0, now - event_time)  # clocks differ a little
            if counted:
                ages.observe(age)
            if rule.max_age_s is None or age <= rule.max_age_s:
                found.append(UserFeatures(history, age, FeatureStatus.OK, event_time, times))
            else:
                aged = _too_old(view, rule, user, history, age)
                used = times if aged.history else None
                found.append(aged._replace(event_time=event_time, times=used))
        return found


def _too_old(
    view: str, rule: ViewFreshness, user: str, history: list[str], age: float
) -> UserFeatures:
    metrics.count(metrics.BEYOND_LIMIT.labels(view, rule.policy))
    if rule.policy == "serve":
        return UserFeatures(history, age, FeatureStatus.OK)
    if rule.policy == "flag":
        return UserFeatures(history, age, FeatureStatus.STALE)
    if rule.policy == "fallback":
        metrics.count(metrics.FALLBACKS.labels("stale"))
        return UserFeatures([], age, FeatureStatus.FALLBACK_STALE)
    metrics.count(metrics.REJECTED.labels("stale"))
    raise FeaturesRejected(
        f"features of user '{user}' ({view}) are {age:,.0f} s old, at most {rule.max_age_s:,.0f} s "
        "are allowed: bring the online store up to date, or send 'history' along "
        f"(serving.transformer.freshness.{view}.policy is 'reject')",
        "FAILED_PRECONDITION",
    )
