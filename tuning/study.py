"""The study: Optuna's trials in SQLite, what became of each, and what is to be run again.

States: complete; pruned, by the pruner or because the config was refused (`refused`); failed, by an
error of the trial or because its process was killed (`again`, when a copy of it is queued). Several
searches may share a study on one machine.
"""

import logging
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from recommender.errors import KuberecError
from tuning.owner import lives, others
from tuning.settings import PrunerConfig, TuningConfig
from tuning.space import Parameter

REASON, REFUSED, AGAIN, RETRY_OF, OWNER = "reason", "refused", "again", "retry_of", "owner"
IDENTITY, NAME = "identity", "kuberec"
DATABASE, OWNERS = "study.db", "owners"
NO_ANSWER = "its search was killed"

optuna.logging.set_verbosity(optuna.logging.WARNING)
# Imported at SQLite's first use; it says at INFO what it finds.
logging.getLogger("alembic").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Study:
    """A study in a folder; every method may be called from several threads."""

    def __init__(
        self,
        folder: Path,
        config: TuningConfig,
        space: Sequence[Parameter],
        identity: Mapping[str, Any],
        owner: str,
    ) -> None:
        """Make the study, or take up the one that lies there.

        Args:
            identity: what all its trials share, by name (data, base config, space).
            owner: the name of our lock (tuning.owner) in the folder's OWNERS.

        Raises:
            KuberecError: the study that lies there is of another data, base or space.
        """
        self.folder = folder
        self._config = config
        self._space = space
        self._owner = owner
        self._lock = threading.RLock()
        self._storage = optuna.storages.RDBStorage(
            f"sqlite:///{folder / DATABASE}",
            engine_kwargs={"connect_args": {"timeout": 60}},  # seconds, for a locked file
        )
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=NAME,
            direction="maximize",
            pruner=_pruner(config.pruner),
            load_if_exists=True,
        )
        known = self._study.user_attrs.get(IDENTITY)
        if known is None:
            self._study.set_user_attr(IDENTITY, dict(identity))
        elif known != identity:
            changed = sorted(name for name in identity if known.get(name) != identity[name])
            raise KuberecError(
                f"the study in '{folder}' has trials of another {', '.join(changed)}, which cannot "
                "be compared with these: give this search a --study name of its own"
            )

    @property
    def optuna(self) -> optuna.Study:
        return self._study

    def trials(self) -> list[FrozenTrial]:
        with self._lock:
            return self._study.get_trials(deepcopy=False)

    def spent(self) -> int:
        """Trials that count: those that trained or failed by themselves, and those under way."""
        return sum(
            trial.state != TrialState.WAITING
            and AGAIN not in trial.user_attrs
            and REFUSED not in trial.user_attrs
            for trial in self.trials()
        )

    def best(self) -> FrozenTrial | None:
        done = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        return max(done, key=lambda trial: (trial.value, -trial.number), default=None)

    def ask(self) -> Trial:
        """The next trial, with values for the whole space: a queued one, or what TPE proposes.

        What is proposed depends on the seed and the trials before alone, and so is the same in a
        search that goes on as in one that was never interrupted (one job at a time).
        """
        with self._lock:
            before = sum(AGAIN not in trial.user_attrs for trial in self.trials())
            self._study.sampler = optuna.samplers.TPESampler(
                seed=(self._config.seed + 7919 * before) % 2**32,
                n_startup_trials=self._config.startup_trials,
                multivariate=True,
                constant_liar=True,  # what runs beside it is not proposed again
            )
            trial = self._study.ask({each.key: each.distribution() for each in self._space})
            trial.set_user_attr(OWNER, self._owner)
            return trial

    def report(self, trial: Trial, epoch: int, value: float) -> bool:
        """Note the value after `epoch` (from 1); whether the pruner lets the trial go on."""
        with self._lock:
            trial.report(value, epoch)
            return not trial.should_prune()

    def complete(self, trial: Trial, value: float) -> None:
        with self._lock:
            self._study.tell(trial, value)

    def prune(self, trial: Trial, reason: str, *, refused: bool = False) -> None:
        with self._lock:
            trial.set_user_attr(REASON, reason)
            if refused:
                trial.set_user_attr(REFUSED, True)
            self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str) -> None:
        with self._lock:
            trial.set_user_attr(REASON, reason)
            self._study.tell(trial, state=TrialState.FAIL)

    def fail_and_queue(self, trial: Trial | FrozenTrial, reason: str, *, counts: bool) -> bool:
        """Mark a trial failed that is not to blame, and queue its values; whether they are.

        Args:
            counts: as one of the tries that the settings allow.
        """
        with self._lock:
            tries = trial.user_attrs.get(RETRY_OF, [])
            again = not counts or len(tries) < self._config.retries
            attributes: dict[str, Any] = {REASON: reason} | ({AGAIN: True} if again else {})
            # Also of a trial that is no process's any more, which has no public setter.
            key = self._storage.get_trial_id_from_study_id_trial_number(
                self._storage.get_study_id_from_name(NAME), trial.number
            )
            for name, value in attributes.items():
                self._storage.set_trial_user_attr(key, name, value)
            self._study.tell(trial.number, state=TrialState.FAIL)
            if again:
                tries = [*tries, trial.number] if counts else tries
                self._study.enqueue_trial(trial.params, user_attrs={RETRY_OF: tries})
            return again

    def take_over(self) -> int:
        """Queue again what searches that were killed left running; the number of such trials."""
        folder, found = self.folder / OWNERS, 0
        with self._lock:
            for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
                name = trial.user_attrs.get(OWNER)
                # Killed between asking and signing: no one else may be about to sign it.
                alone = name is None and not others(folder, self._owner)
                if alone or (name is not None and not lives(folder, name)):
                    self.fail_and_queue(trial, NO_ANSWER, counts=True)
                    found += 1
        return found


def _pruner(config: PrunerConfig) -> optuna.pruners.BasePruner:
    if config.kind == "median":
        return optuna.pruners.MedianPruner(config.startup_trials, config.warmup_epochs)
    if config.kind == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(config.warmup_epochs, reduction_factor=3)
    return optuna.pruners.NopPruner()
