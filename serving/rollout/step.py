"""One step of a rollout: the canary has its share, and is watched until there is a verdict."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from serving.rollout.evidence import (
    Evidence,
    MetricsUnavailable,
    Window,
    as_numbers,
    dump,
    restore,
)
from serving.rollout.judging.judge import Round, judge
from serving.rollout.judging.ranking import answered, summary
from serving.rollout.judging.spending import looks_of, spending
from serving.rollout.mirror import Mirror
from serving.rollout.record import Look, Rollout, StepRecord, Verdict, now
from serving.rollout.settings import RolloutConfig
from serving.rollout.sight import POLL_S, Sight, other_hand
from serving.rollout.target import Observed, Target
from serving.rollout.traffic import OwnRequests
from serving.version import GoldenRequest

Say = Callable[[str], None]
End = Literal["go_on", "roll_back", "hold", "promote_now", "taken_over"]


class Ended(NamedTuple):
    """How a step ended; promote_now is an operator's wish."""

    how: End
    reason: str


class StepWatch:
    """Watches one step.

    Args:
        golden: the canary's golden requests: sent to both versions, and through the door where
            clients send too little.
        own: sends the latter.
        poll_s: seconds between two looks at what serves.
    """

    def __init__(
        self,
        target: Target,
        rollout: Rollout,
        config: RolloutConfig,
        golden: Sequence[GoldenRequest],
        own: OwnRequests,
        say: Say,
        poll_s: float = POLL_S,
    ) -> None:
        self._target, self._rollout, self._config = target, rollout, config
        self._golden, self._own, self._say, self._poll_s = golden, own, say, poll_s
        self._sight = Sight(target, poll_s)
        self._step = config.steps[rollout.step]
        self._record = StepRecord(percent=self._step.percent, began=now())
        self._evidence: Evidence | None = None
        self._mirror = Mirror(target, rollout, config, golden, looks_of(self._step, config))
        self._told = ""

    def run(self) -> Ended:
        """Shift, watch, judge; returns when it is clear how it goes on. The record is saved.

        Raises:
            StableNotReady: there could be no shift. OutOfSight: what serves is not seen.
        """
        rollout = self._rollout
        if ended := self._asked():
            return ended
        rollout.steps.append(self._record)
        rollout.percent = self._step.percent
        self._target.save(rollout)
        self._target.shift(rollout, self._step.percent)
        rollout.confirmed = self._step.percent
        self._target.save(rollout)
        self._own.start_over()
        try:
            ended = self._watch()
        finally:
            self._own.pause()
        self._record.ended = now()
        self._target.save(rollout)
        return ended

    def _watch(self) -> Ended:
        begin = time.monotonic()  # of the time that counts: without what stable was away
        deadline = begin + self._step.bake_s + self._config.max_wait_s
        next_look = begin + self._config.look_every_s
        unready_since: float | None = None
        away_since: float | None = None
        patience_s = self._config.stable_timeout_s  # with stable, in all of the step
        self._begin_counting()
        while True:
            seen = self._sight.observe()
            at = time.monotonic()
            if ended := self._asked():
                return ended
            if changed := other_hand(self._rollout, seen, [self._step.percent]):
                return Ended("taken_over", changed)
            if not seen.stable_ready:
                # Nothing is changed meanwhile: requests would have nowhere to go.
                why = seen.trouble or "it does not answer"
                self._hold_look(seen, f"stable ({self._rollout.stable}) is not ready: {why}")
                away_since, unready_since = away_since or at, None
                if at - away_since > patience_s:
                    reason = f"stable was not ready for {self._config.stable_timeout_s:g} s: {why}"
                    return Ended("hold", reason)
                time.sleep(self._poll_s)
                continue
            if away_since is not None:
                away_s, away_since = at - away_since, None
                patience_s -= away_s
                # What was counted while it was away says nothing about the canary; a moment does
                # not spoil the rest.
                if away_s > self._config.max_unready_s:
                    self._begin_counting()
                    deadline += at - begin
                    begin, next_look = at, at + self._config.look_every_s
            if seen.canary_ready:
                unready_since = None
            else:
                unready_since = unready_since or at
                if at - unready_since >= self._config.max_unready_s:
                    why = seen.trouble or "it does not answer"
                    return Ended("roll_back", f"the canary is not ready any more: {why}")
            # One that is not ready would only be waited for.
            if at >= next_look and unready_since is None:
                verdict = self._look(seen, at - begin)
                next_look = max(next_look + self._config.look_every_s, time.monotonic())
                ended = self._decide(verdict, at - begin, at > deadline)
                if ended is not None:
                    return ended
            time.sleep(min(self._poll_s, max(next_look - time.monotonic(), 0.01)))

    def _asked(self) -> Ended | None:
        """What an operator wants, if anything."""
        if asked := self._target.requested():
            how: End = "roll_back" if asked == "abort" else "promote_now"
            return Ended(how, f"an operator asked for it (kuberec rollout {asked})")
        return None

    def _decide(self, verdict: Verdict, elapsed_s: float, late: bool) -> Ended | None:
        if verdict.outcome == "roll_back":
            return Ended("roll_back", verdict.reason)
        if verdict.outcome == "promote" and elapsed_s >= self._step.bake_s:
            return Ended("go_on", verdict.reason)
        if late:
            waited = f"after {self._step.bake_s + self._config.max_wait_s:g} s"
            return Ended("hold", f"{verdict.reason} ({waited}: bake_s and max_wait_s)")
        return None

    def _begin_counting(self) -> None:
        self._mirror.start_over()
        self._evidence = None
        with contextlib.suppress(MetricsUnavailable):  # the next look tries again, and tells
            self._start_evidence()

    def _start_evidence(self) -> Evidence:
        evidence = self._target.evidence(self._rollout)
        evidence.begin()
        self._evidence = evidence
        return evidence

    def _windows(self) -> tuple[Window | None, Window | None, str]:
        """Stable's and the canary's numbers, or why there are none."""
        try:
            stable, canary = (self._evidence or self._start_evidence()).read()
        except MetricsUnavailable as error:
            return None, None, str(error)
        return stable, canary, ""

    def _look(self, seen: Observed, elapsed_s: float) -> Verdict:
        stable, canary, problem = self._windows()
        pairs_problem = self._mirror.ask()
        config = self._config
        if self._golden and self._mirror.exhausted and not pairs_problem:
            # A quiet endpoint has no more different requests than these, of which some (without a
            # known item) tell nothing of a model.
            telling = len(answered(self._mirror.pairs, config.ranking))
            enough = min(config.ranking.min_pairs, max(telling, len(self._golden) // 2, 1))
            ranking = config.ranking.model_copy(update={"min_pairs": enough})
            config = config.model_copy(update={"ranking": ranking})
        before = self._stable_before()
        found = Round(
            percent=self._step.percent,
            stable=stable,
            canary=canary,
            problem=problem,
            pairs=self._mirror.pairs,
            pairs_problem=pairs_problem,
            stable_before=restore(before.stable) if before and before.stable else None,
            load_then=1 - before.percent / 100 if before else 1.0,
        )
        verdict = judge(found, config, spending(self._rollout, config))
        self._send_own(stable, canary, elapsed_s, verdict)
        if stable is not None:
            self._record.stable = dump(stable)
        # That it is open is news once it should no longer be.
        tell = verdict.outcome != "inconclusive" or elapsed_s >= self._step.bake_s
        self._remember(seen, verdict, stable, canary, tell)
        return verdict

    def _stable_before(self) -> StepRecord | None:
        """The latest step in which stable had requests: at 100 % it has none."""
        for record in reversed(self._rollout.steps[:-1]):
            if record.stable is not None and record.percent < 100:
                return record
        return None

    def _send_own(
        self, stable: Window | None, canary: Window | None, elapsed_s: float, verdict: Verdict
    ) -> None:
        """Golden requests through the door, while there will be too few to judge in time.

        Beyond bake_s that is so as long as the verdict is open: `min_requests` were not enough.
        """
        if stable is None or canary is None:
            return  # they would not be counted
        enough = self._config.min_requests
        fewest = canary.requests
        if self._step.percent < 100:
            fewest = min(fewest, stable.requests)
        on_time = min(elapsed_s / self._step.bake_s, 1.0) * enough
        open_late = verdict.outcome == "inconclusive" and elapsed_s >= self._step.bake_s
        if (fewest < on_time or open_late) and not self._own.used_up:
            self._own.go_on()
        elif fewest >= enough:
            self._own.pause()

    def _hold_look(self, seen: Observed, reason: str) -> None:
        last = self._record.verdict
        if last is None or last.reason != reason:
            self._remember(seen, Verdict(outcome="hold", reason=reason))

    def _remember(
        self,
        seen: Observed,
        verdict: Verdict,
        stable: Window | None = None,
        canary: Window | None = None,
        tell: bool = True,
    ) -> None:
        self._record.verdict = verdict
        self._record.looks.append(
            Look(
                at=now(),
                canary_percent=seen.percent,
                outcome=verdict.outcome,
                reason=verdict.reason,
                stable=as_numbers(stable) if stable is not None else {},
                canary=as_numbers(canary) if canary is not None else {},
                ranking=summary(self._mirror.pairs, self._config.ranking)
                if self._mirror.pairs
                else {},
                own_requests=self._own.sent,
            )
        )
        self._target.save(self._rollout)
        if tell and verdict.outcome != self._told:  # its numbers change with every look
            self._say(f"{self._step.percent} %: {verdict.outcome}: {verdict.reason}")
            self._told = verdict.outcome
