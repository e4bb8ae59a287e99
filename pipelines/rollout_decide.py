"""An operator's decision about a rollout: done here, or asked of the process that is at it."""

import time
from collections.abc import Callable

from rich.console import Console

from pipelines.endpoint import lines_on
from recommender.errors import KuberecError
from serving.rollout import machine
from serving.rollout.outcome import RolloutStopped, headline
from serving.rollout.record import Rollout
from serving.rollout.target import RolloutUnderWay, Target

_POLL_S = 1.0
# A process that was just about to end does not see the request any more.
_GRACE_S = 3.0


def decide(
    target: Target,
    what: str,
    console: Console,
    poll_s: float = _POLL_S,
    after: Callable[[Rollout], None] = lambda rollout: None,
) -> Rollout:
    """Promote or abort ("promote", "abort"); returns the rollout as it ended.

    Args:
        after: called with it as soon as it is over, however it ended.

    Raises:
        KuberecError: there is nothing to decide; or it ended otherwise, such as by a canary that
            did not get ready, or by somebody else's change.
    """
    say = lines_on(console)
    while True:
        rollout = target.load()
        if rollout is None or not rollout.unfinished:
            said = f" (the latest one: {headline(rollout)})" if rollout else ""
            raise KuberecError(f"no rollout is under way or held{said}")
        work = machine.promote if what == "promote" else machine.abort
        try:
            ended = work(target, say)
        except RolloutUnderWay:
            _ask(target, what, rollout, console, poll_s)
            found = target.load()
            if found is not None and found.id == rollout.id and found.unfinished:
                continue  # that process was killed, or held it: then it is done here
            ended = found or rollout
        except RolloutStopped as stopped:
            after(stopped.rollout)
            raise
        after(ended)
        wanted = "promoted" if what == "promote" else "rolled_back"
        if ended.status != wanted:
            raise KuberecError(headline(ended))
        console.print(headline(ended), highlight=False, markup=False, soft_wrap=True)
        seen = target.observe()
        if not seen.stable_ready:
            hint = " (start the endpoint with: kuberec serve)" if target.kind == "embedded" else ""
            say(f"{seen.stable} does not answer just now: {seen.trouble}{hint}")
        return ended


def _ask(target: Target, what: str, rollout: Rollout, console: Console, poll_s: float) -> None:
    """Ask the process that is at it, and show what it notes, until it is done or gone."""
    say, shown = lines_on(console), len(rollout.notes)
    say(f"{target.holder() or 'another process'} is at it, and was asked to {what}")
    target.request("promote" if what == "promote" else "abort")
    alone_since: float | None = None
    while True:
        found = target.load()
        if found is None or found.id != rollout.id:
            return
        for note in found.notes[shown:]:
            say(note.message)
        shown = max(shown, len(found.notes))
        if not found.unfinished:
            return
        if target.holder() is not None:
            alone_since = None
        elif alone_since is None:
            alone_since = time.monotonic()
        elif time.monotonic() - alone_since > _GRACE_S:
            return
        time.sleep(poll_s)
