"""The same requests to both versions, look after look: the golden ones once, then live ones."""

from collections.abc import Sequence

from serving.rollout.evidence import MetricsUnavailable, Pair, Request
from serving.rollout.record import Rollout
from serving.rollout.settings import RolloutConfig
from serving.rollout.target import Target
from serving.version import GoldenRequest


class Mirror:
    """Answers of both versions within one step.

    Args:
        golden: the canary's golden requests.
        looks: looks of the step, over which the live requests are spread.

    Attributes:
        pairs: all so far, each request once.
        exhausted: whether clients have sent nothing else of late.
    """

    def __init__(
        self,
        target: Target,
        rollout: Rollout,
        config: RolloutConfig,
        golden: Sequence[GoldenRequest],
        looks: int,
    ) -> None:
        self._target, self._rollout, self._golden = target, rollout, golden
        self._limit = config.ranking.pairs_per_step
        self._each_look = -(-self._limit // looks)
        # Our own through the door are sampled as everybody's are, and say nothing new.
        self._own = {
            (tuple(each.history), tuple(each.exclude), tuple(each.history_times)) for each in golden
        }
        self.start_over()

    def start_over(self) -> None:
        self.pairs: list[Pair] = []
        self._asked_golden = False
        self._asked: set[tuple[object, ...]] = set()
        self.exhausted = False

    def ask(self) -> str:
        """Some more; why there were none, or no live ones among them, or ""."""
        room = self._limit - len(self.pairs)
        if room <= 0:
            return ""
        requests, problem = self._golden_once(room), ""
        some = min(room - len(requests), self._each_look)
        try:
            if some > 0:
                requests += self._live(some)
        except MetricsUnavailable as error:
            problem = str(error)
        try:
            if requests:
                self.pairs += self._target.ask_both(self._rollout, requests)
            self._asked_golden = True
        except MetricsUnavailable as error:
            problem = str(error)
        return problem

    def _golden_once(self, room: int) -> list[Request]:
        if self._asked_golden:
            return []
        return [
            Request(
                "golden",
                history=each.history,
                exclude=each.exclude,
                history_times=each.history_times,
            )
            for each in self._golden[: max(room // 2, 1)]
        ]

    def _live(self, limit: int) -> list[Request]:
        found = self._target.live_requests(self._rollout, limit)
        # What was asked in this step would only be answered as before: it is no further evidence.
        new = {_content(each): each for each in found}
        live = [
            each
            for content, each in new.items()
            if content not in self._asked
            and (each.user_id is not None or content[1:4] not in self._own)
        ]
        self._asked |= new.keys()
        self.exhausted = not live
        return live


def _content(request: Request) -> tuple[object, ...]:
    history = None if request.history is None else tuple(request.history)
    times = tuple(request.history_times)
    return request.user_id, history, tuple(request.exclude), times, request.k
