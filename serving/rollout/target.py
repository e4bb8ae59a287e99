"""Where a rollout happens: the one interface of the state machine to an endpoint.

Two places have it: the embedded endpoint (embedded/) and KServe (kserve/). Every method that
changes something may be called again after it was interrupted, and returns once clients' requests
go where it says.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, Protocol

from recommender.errors import Check, KuberecError
from serving.client import Door
from serving.rollout.evidence import Evidence, Pair, Request
from serving.rollout.record import Note, Rollout, Wish


class StableNotReady(KuberecError):
    """The version that serves does not answer, so that nothing may be changed beside it."""


class OutOfSight(KuberecError):
    """What serves could not be seen for so long that nothing can be decided."""


class RolloutUnderWay(KuberecError):
    """Another process is at it; says which, since when, and what can be done."""


class Observed(NamedTuple):
    """What serves, as the endpoint itself says.

    Attributes:
        stable: version that is the current one; None: none was ever served.
        canary: version beside it; None: there is none.
        percent: share of the requests that goes to the canary, as the gateway has it.
        wanted_percent: share that was last asked for. The gateway may be on its way there.
        stable_ready, canary_ready: whether all of it answers.
        trouble: why not, in words; "" if nothing is wrong.
    """

    stable: str | None
    canary: str | None
    percent: int
    wanted_percent: int
    stable_ready: bool
    canary_ready: bool
    trouble: str = ""


class Target(Protocol):
    """An endpoint with a stable version and room for a canary."""

    kind: Literal["embedded", "kserve"]

    def exclusive(self) -> AbstractContextManager[None]:
        """Be the only process that rolls out here, until the block or the process ends.

        Raises:
            RolloutUnderWay: another one is.
        """

    def holder(self) -> str | None:
        """Who is that process now, in words ("pid 4711"); None: nobody. Takes no lock."""

    def load(self) -> Rollout | None:
        """The latest rollout, finished or not; None: there was none."""

    def history(self) -> list[Rollout]:
        """Those that are remembered, newest first, the latest too; earlier ones maybe in short."""

    def save(self, rollout: Rollout) -> None:
        """Remember it where it survives this process. Called often; atomic."""

    def requested(self) -> Wish | None:
        """What an operator asked of the process that rolls out, and has not been done yet."""

    def request(self, what: Wish | None) -> None:
        """Ask that, as an operator; None: it is done."""

    def observe(self) -> Observed:
        """What serves now. Quick: called every second."""

    def prepare(self, rollout: Rollout) -> list[Check]:
        """Let the canary run beside stable without a request from clients, and ask it.

        Its golden requests must have their answers, and a user's features be found.

        Raises:
            GateFailed: an answer is off its limit. KuberecError: it does not get ready; says why.
        """

    def shift(self, rollout: Rollout, percent: int) -> None:
        """Give the canary that share; stable has the rest."""

    def promote(self, rollout: Rollout) -> None:
        """With all requests at the canary: it is the stable version now, and alone."""

    def abandon(self, rollout: Rollout) -> None:
        """All requests to stable, and then no canary any more.

        Raises:
            KuberecError: stable is not ready, so that nothing was taken away; says so.
        """

    def evidence(self, rollout: Rollout) -> Evidence:
        """Live traffic of both, of this rollout."""

    def door(self) -> Door:
        """Where clients ask, for requests of our own that count as theirs."""

    def live_requests(self, rollout: Rollout, limit: int) -> list[Request]:
        """Requests that clients sent of late, a random sample; [] where there are none to be had.

        Raises:
            MetricsUnavailable: they could not be asked for.
        """

    def ask_both(self, rollout: Rollout, requests: Sequence[Request]) -> list[Pair]:
        """Ask stable and the canary the same, by a way that is no client's and is not counted."""

    def announce(self, rollout: Rollout, note: Note) -> None:
        """Tell the operators, where the endpoint has a place for it. Never fails."""
