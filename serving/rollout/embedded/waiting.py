"""Changes of an embedded endpoint that wait until what serves answers."""

import time
from collections.abc import Callable

from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.shares import SplitRefused
from serving.embedded.state import ServingBusy, State
from serving.process import alive
from serving.rollout.record import Rollout
from serving.rollout.settings import RolloutConfig
from serving.rollout.target import StableNotReady

_POLL_S = 0.3
_LOCK_S = 1.0  # who holds it longer may be starting what died


def once_ready(
    endpoint: EmbeddedEndpoint,
    rollout: Rollout,
    change: Callable[[], None],
    asked: Callable[[], str | None] = lambda: None,
) -> None:
    """Make a change under the endpoint's lock, as soon as stable answers.

    The lock is free meanwhile, for whoever starts again what died.

    Args:
        change: raises SplitRefused where something is not ready after all.
        asked: an operator's wish, which ends the waiting.

    Raises:
        StableNotReady: for stable_timeout_s; or nobody can mend it, or it was changed by another
            hand, or something else is asked for. Nothing has changed.
        SplitRefused: stable answers, and the canary has not for max_unready_s.
    """
    limits = RolloutConfig.model_validate(rollout.config)
    stable, before = rollout.stable, _set(endpoint.state())
    begin, refused_since = time.monotonic(), None
    while True:
        trouble = trouble_of(endpoint.state(), stable)
        if not trouble:
            try:
                with endpoint.locked(timeout_s=_LOCK_S):
                    change()
                    return
            except ServingBusy as busy:
                trouble, refused_since = str(busy), None
            except SplitRefused as refused:
                trouble = trouble_of(endpoint.state(), stable)
                if not trouble:
                    trouble, at = str(refused), time.monotonic()
                    refused_since = refused_since or at
                    if at - refused_since >= limits.max_unready_s:
                        raise
        else:
            refused_since = None
        said = f"nothing was changed, because {stable} is not ready: {trouble}"
        keeper = endpoint.state().foreground
        if not endpoint.runs():
            raise StableNotReady(
                f"{said}. The endpoint is stopped: `kuberec serve` starts it again, "
                f"`kuberec rollout abort` gives {rollout.canary} up"
            )
        if _set(endpoint.state()) != before:
            raise StableNotReady(f"{said}; meanwhile somebody else changed what serves")
        if wish := asked():
            raise StableNotReady(f"{said}; meanwhile an operator asked for another end: {wish}")
        if time.monotonic() - begin > limits.stable_timeout_s:
            alone = keeper is None or not alive(keeper)
            hint = "; nobody starts it again: kuberec serve" if alone else ""
            raise StableNotReady(f"{said} ({limits.stable_timeout_s:g} s: stable_timeout_s){hint}")
        time.sleep(_POLL_S)


def _set(state: State) -> tuple[str | None, dict[str, int]]:
    return state.current, state.weights


def trouble_of(state: State, version: str | None) -> str:
    """Why a version does not answer, in words; "" if it does."""
    replica = None if version is None else state.replicas.get(version)
    if replica is None:
        return "it does not run"
    dead = [
        name
        for name, part in (("transformer", replica.transformer), ("Triton", replica.triton))
        if not part.alive()
    ]
    if dead:
        return f"its {' and its '.join(dead)} ended"
    # Asked twice: on a busy machine one answer may be late. The transformer asks its Triton.
    if not any(replica.transformer.ready() for _ in range(2)):
        return "it does not answer"
    return ""
