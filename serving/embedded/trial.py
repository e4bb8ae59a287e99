"""A version on trial: started beside those that serve, without holding the endpoint's lock."""

from recommender.errors import KuberecError
from serving.embedded.processes import Processes
from serving.embedded.replica import Replica
from serving.embedded.state import ServingHome, Trial
from serving.process import this_process


class TrialEnded(KuberecError):
    """Another command stopped a version while it was being started to be tried."""


def start_trial(
    home: ServingHome, processes: Processes, lock_timeout_s: float, version: str
) -> Replica:
    """A ready replica; that of a version which the state knows already under the lock, as usual.

    Raises:
        TrialEnded: and what `Processes.run` raises.
    """
    trial = Trial(version=version, by=this_process())
    with home.locked(lock_timeout_s):
        state = home.load()
        state.trial = trial
        home.save(state)
        if version in state.replicas:
            return processes.run(state, version)
    try:
        replica = processes.launch(version)
    except BaseException:
        _end(home, lock_timeout_s, trial)
        raise
    with home.locked(lock_timeout_s):
        state = home.load()
        if state.trial == trial:
            state.replicas[version] = replica
            home.save(state)
            return replica
    replica.stop()
    raise TrialEnded(f"another command stopped model version {version} while it was started")


def _end(home: ServingHome, lock_timeout_s: float, trial: Trial) -> None:
    with home.locked(lock_timeout_s):
        state = home.load()
        if state.trial == trial:
            state.trial = None
            home.save(state)
