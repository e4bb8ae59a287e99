"""The rollout's state machine: a canary by steps, each judged; promoted, rolled back or held.

    preparing ─▶ step 1 ─▶ … ─▶ step n ─▶ promoting ─▶ done: promoted
        └───────────┴─────────────┴──────▶ rolling_back ─▶ done: rolled_back
                    └──▶ held (an operator decides, or it is run again)

One machine for every endpoint (target.py). What it is about to do is saved before it does it, so
that a process which was killed at any point is gone on from by running it again.
"""

import contextlib
import re
import uuid
from collections.abc import Sequence

from recommender.errors import GateFailed, KuberecError
from serving.rollout.outcome import RolloutStopped
from serving.rollout.record import Note, Rollout, Status, now
from serving.rollout.settings import RolloutConfig
from serving.rollout.sight import POLL_S, Sight, changed
from serving.rollout.step import Ended, Say, StepWatch
from serving.rollout.target import (
    OutOfSight,
    RolloutUnderWay,
    StableNotReady,
    Target,
)
from serving.rollout.traffic import OwnRequests
from serving.version import GoldenRequest


def roll_out(
    target: Target,
    canary: str,
    golden: Sequence[GoldenRequest],
    config: RolloutConfig,
    say: Say | None = None,
    poll_s: float = POLL_S,
) -> Rollout:
    """Let a version take over from the one that serves, if the evidence is for it.

    One that was killed, or held, is gone on with; one of another version is rolled back first.

    Args:
        canary: the version's id; `target` knows where it comes from.
        golden: its golden requests.
        say: called with each line of progress.

    Returns:
        the rollout, promoted.

    Raises:
        RolloutStopped: it ended otherwise; in every case but `held` and `taken_over` stable serves
            alone. RolloutUnderWay: another process is at it. KuberecError: it could neither go on
            nor be rolled back; run it again.
    """
    with target.exclusive():
        machine = _Machine(target, config, golden, say or (lambda line: None), poll_s)
        return machine.run(machine.begin(canary))


def promote(target: Target, say: Say | None = None) -> Rollout:
    """Let the canary of a held or killed rollout take over, whatever the evidence: an operator's.

    Raises:
        KuberecError: there is none. RolloutUnderWay: a process is at it, see Target.request.
    """
    return _decide(target, "promoting", "kuberec rollout promote", say)


def abort(target: Target, say: Say | None = None) -> Rollout:
    """Give the canary of a held or killed rollout up; as `promote`."""
    return _decide(target, "rolling_back", "kuberec rollout abort", say)


def _decide(target: Target, phase: str, command: str, say: Say | None) -> Rollout:
    with target.exclusive():
        rollout = target.load()
        if rollout is None or not rollout.unfinished:
            raise KuberecError("there is no rollout under way, and none is held")
        if phase == "promoting" and rollout.phase == "preparing":
            raise KuberecError(
                f"{rollout.canary} has not answered its golden requests yet: run it again, or give "
                "it up (kuberec rollout abort)"
            )
        target.request(None)  # what was asked of an earlier process
        config = RolloutConfig.model_validate(rollout.config)
        machine = _Machine(target, config, [], say or (lambda line: None), POLL_S)
        before = rollout.model_copy(deep=True)
        try:
            return machine.finish(rollout, phase, f"an operator asked for it ({command})")
        except StableNotReady:
            if phase == "promoting":  # refused: to run it again is not to promote it unjudged
                before.percent = rollout.percent
                before.notes = rollout.notes
                target.save(before)
            raise
        except RolloutStopped as stopped:
            if stopped.rollout.status == "rolled_back" and phase == "rolling_back":
                return stopped.rollout
            raise


class _Machine:
    def __init__(
        self,
        target: Target,
        config: RolloutConfig,
        golden: Sequence[GoldenRequest],
        say: Say,
        poll_s: float,
    ) -> None:
        self._target, self._config, self._golden, self._say = target, config, golden, say
        self._poll_s = poll_s
        self._sight = Sight(target, poll_s)

    def begin(self, canary: str) -> Rollout:
        """The rollout to go on with, or a new one."""
        self._target.request(None)  # what was asked of an earlier process
        last = self._target.load()
        seen = self._sight.observe()
        if last is not None and last.unfinished:
            by = changed(last, seen)
            if not by and last.canary == canary:
                last.config = self._config.model_dump(mode="json")
                last.status, last.ended = "under_way", None
                if last.phase in ("preparing", "step"):
                    last.reason = ""  # why it was held
                last.step = self._next_step(last)
                self._note(last, "RolloutResumed", f"goes on in phase {last.phase}")
                return last
            if not by and seen.stable == last.canary:
                self._promote(last)  # killed right after it
                seen = self._sight.observe()
            elif not by:
                self._note(last, "RolloutSuperseded", f"{canary} is to be rolled out")
                with contextlib.suppress(RolloutStopped):
                    self.finish(last, "rolling_back", f"{canary} is to be rolled out instead")
                seen = self._sight.observe()
            else:
                self._end(last, "taken_over", by)
        if seen.canary is not None:
            raise KuberecError(
                f"{seen.canary} has {seen.wanted_percent} % of the requests beside {seen.stable}, "
                "and no rollout of ours did that: promote it or give it up first, as whoever "
                "began it would"
            )
        if seen.stable is None:
            raise ValueError("without a version that serves there is nothing to compare with")
        rollout = Rollout(
            id=f"{now()[:19].replace(':', '').replace('-', '')}-{uuid.uuid4().hex[:6]}",
            target=self._target.kind,
            stable=seen.stable,
            canary=canary,
            began=now(),
            config=self._config.model_dump(mode="json"),
        )
        steps = " → ".join(f"{step.percent} %" for step in self._config.steps)
        self._note(rollout, "RolloutStarted", f"{canary} beside {seen.stable}: {steps}")
        return rollout

    def _next_step(self, rollout: Rollout) -> int:
        """The first step beyond what has passed; the config's steps may be others by now."""
        passed = [
            record.percent
            for record in rollout.steps
            if record.ended and record.verdict and record.verdict.outcome == "promote"
        ]
        shares = [step.percent for step in self._config.steps]
        beyond = [index for index, share in enumerate(shares) if share > max(passed, default=0)]
        return beyond[0] if beyond else len(shares) - 1

    def run(self, rollout: Rollout) -> Rollout:
        """From the phase that it is in to an end."""
        try:
            if rollout.phase == "preparing":
                rollout.prepared = [check.as_dict() for check in self._target.prepare(rollout)]
                rollout.phase, rollout.step = "step", 0
                self._note(rollout, "RolloutPrepared", f"{rollout.canary} is ready")
            if rollout.phase == "step":
                self._steps(rollout)
            if rollout.phase == "promoting":
                self._promote(rollout)
        except (RolloutStopped, RolloutUnderWay):
            raise
        except (StableNotReady, OutOfSight) as error:
            # Nothing says that it is the canary's fault, and nothing may be taken away just now.
            self._stop(rollout, "held", str(error))
        except KuberecError as error:
            if isinstance(error, GateFailed):
                rollout.prepared = [check.as_dict() for check in error.checks]
            # What failed may have failed for somebody else's doing.
            if rollout.phase == "step" and (by := changed(rollout, self._sight.observe())):
                self._stop(rollout, "taken_over", by)
            rollout.phase, rollout.reason = "rolling_back", str(error)
        except KeyboardInterrupt:
            rollout.phase, rollout.reason = "rolling_back", "it was interrupted (Ctrl-C)"
        except Exception as error:  # a defect of ours: no reason to leave a canary unwatched
            rollout.phase = "rolling_back"
            rollout.reason = f"an unforeseen failure, {type(error).__name__}: {error}"
            with contextlib.suppress(RolloutStopped):
                self._roll_back(rollout)
            raise
        if rollout.phase == "rolling_back":
            self._roll_back(rollout)
        return rollout

    def finish(self, rollout: Rollout, phase: str, reason: str) -> Rollout:
        """Go to an end without more evidence."""
        seen = self._sight.observe()
        if by := changed(rollout, seen):
            self._stop(rollout, "taken_over", by)
        rollout.status, rollout.ended, rollout.reason = "under_way", None, reason
        if phase == "promoting":
            self._jump(rollout)
            self._promote(rollout)
            return rollout
        rollout.phase = "rolling_back"
        self._roll_back(rollout)
        raise AssertionError("unreachable")

    def _steps(self, rollout: Rollout) -> None:
        own = OwnRequests(
            self._sight.patiently(self._target.door),
            self._golden,
            self._config.own_requests_per_s,
            self._config.own_requests,
        )
        try:
            while rollout.phase == "step":
                self._step(rollout, own)
        finally:
            own.close()

    def _step(self, rollout: Rollout, own: OwnRequests) -> None:
        share = self._config.steps[rollout.step].percent
        self._note(rollout, "RolloutStep", f"{rollout.canary} gets {share} % of the requests")
        watch = StepWatch(
            self._target, rollout, self._config, self._golden, own, self._say, self._poll_s
        )
        ended: Ended = watch.run()
        if ended.how == "go_on":
            if rollout.step + 1 < len(self._config.steps):
                rollout.step += 1
            else:
                rollout.phase, rollout.reason = "promoting", ended.reason
        elif ended.how == "promote_now":
            self._target.request(None)
            rollout.reason = ended.reason
            self._jump(rollout)
        elif ended.how == "roll_back":
            self._target.request(None)
            rollout.phase, rollout.reason = "rolling_back", ended.reason
        elif ended.how == "taken_over":
            self._stop(rollout, "taken_over", ended.reason)
        elif self._config.after_hold == "roll_back":
            rollout.phase, rollout.reason = "rolling_back", f"held, and not kept: {ended.reason}"
        else:
            self._stop(rollout, "held", ended.reason)
        self._target.save(rollout)

    def _jump(self, rollout: Rollout) -> None:
        """All requests to the canary, without a look."""
        rollout.phase, rollout.percent = "promoting", 100
        self._target.save(rollout)

    def _promote(self, rollout: Rollout) -> None:
        self._target.save(rollout)
        if self._sight.observe().stable != rollout.canary:
            rollout.percent = 100
            self._target.shift(rollout, 100)
            rollout.confirmed = 100
        # Also where the canary is the stable version by now: what a promotion cleans up may not be.
        self._target.promote(rollout)
        self._end(rollout, "promoted", rollout.reason)

    def _roll_back(self, rollout: Rollout) -> None:
        """Stable alone.

        Raises:
            RolloutStopped: done. KuberecError: it could not be; the record says that it is to be.
        """
        self._target.save(rollout)
        self._note(rollout, "RolloutRollingBack", rollout.reason, warning=True)
        try:
            self._target.abandon(rollout)
        except KuberecError as error:
            if isinstance(error, RolloutUnderWay):
                raise
            error.args = (
                f"{rollout.canary} is to be rolled back ({rollout.reason}), but: {error}\n"
                "Run it again, or `kuberec rollout abort`, once that is mended.",
            )
            raise
        rollout.percent = 0
        self._stop(rollout, "rolled_back", rollout.reason)

    def _stop(self, rollout: Rollout, status: Status, reason: str) -> None:
        self._end(rollout, status, reason)
        raise RolloutStopped(rollout)

    def _end(self, rollout: Rollout, status: Status, reason: str) -> None:
        rollout.status, rollout.reason, rollout.ended = status, reason, now()
        if status != "held":
            rollout.phase = "done"
        names = {
            "promoted": "RolloutPromoted",
            "rolled_back": "RolloutRolledBack",
            "held": "RolloutHeld",
            "taken_over": "RolloutTakenOver",
        }
        # Of a way back the whole reason was told when it began.
        said = f"{rollout.stable} serves alone" if status == "rolled_back" else reason
        self._note(rollout, names[status], said, warning=status != "promoted")

    def _note(self, rollout: Rollout, reason: str, message: str, warning: bool = False) -> None:
        note = Note(at=now(), reason=reason, message=message, warning=warning)
        rollout.notes.append(note)
        self._target.save(rollout)
        self._say(f"{_in_words(reason)}: {message}")
        self._target.announce(rollout, note)


def _in_words(reason: str) -> str:
    """RolloutRolledBack: "rolled back"."""
    words = re.findall("[A-Z][a-z]*", reason.removeprefix("Rollout"))
    return " ".join(words).lower()
