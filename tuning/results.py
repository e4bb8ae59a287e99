"""What a study found, as plain rows: for the screen, the page and files."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from recommender.files import write_json
from tuning.space import snippet
from tuning.study import AGAIN, REASON, REFUSED

RESULTS = "trials.json"


@dataclass(frozen=True)
class Row:
    """One trial; `value` is the best epoch's validation NDCG@10, of a pruned one up to its end."""

    number: int
    state: str
    value: float | None
    epochs: int
    seconds: float | None
    reason: str
    values: Mapping[str, Any]


def rows(trials: Sequence[FrozenTrial]) -> list[Row]:
    """The trials in their order."""
    return [
        Row(
            number=trial.number,
            state=_state(trial),
            value=max(trial.intermediate_values.values(), default=None),
            epochs=len(trial.intermediate_values),
            seconds=round(trial.duration.total_seconds(), 1) if trial.duration else None,
            reason=trial.user_attrs.get(REASON, ""),
            values=dict(trial.params),
        )
        for trial in trials
    ]


def _state(trial: FrozenTrial) -> str:
    if REFUSED in trial.user_attrs:
        return "refused"
    if AGAIN in trial.user_attrs:
        return "again"
    names = {TrialState.FAIL: "failed", TrialState.RUNNING: "running", TrialState.WAITING: "queued"}
    return names.get(trial.state, trial.state.name.lower())


def best_rows(found: Sequence[Row], count: int) -> list[Row]:
    """The best complete trials, best first; of equal ones the earlier."""
    complete = [row for row in found if row.state == "complete" and row.value is not None]
    return sorted(complete, key=lambda row: (-(row.value or 0), row.number))[:count]


def importances(study: optuna.Study) -> dict[str, float]:
    """Each key's share of the score's variance over complete trials (fANOVA, Hutter et al. 2014).

    Empty where too few trials, or equal scores, tell nothing.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 4 or len({trial.value for trial in complete}) == 1:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def best_yaml(values: Mapping[str, Any]) -> str:
    """Values as the sections that go into a run's YAML."""
    return yaml.safe_dump(snippet(values), sort_keys=False, allow_unicode=True)


def write_results(folder: Path, found: Sequence[Row], importance: Mapping[str, float]) -> None:
    """Everything as JSON, for programs."""
    best = best_rows(found, 1)
    write_json(
        folder / RESULTS,
        {
            "objective": "validation NDCG@10 of the best epoch; full ranking, history masked",
            "best": asdict(best[0]) if best else None,
            "importances": dict(importance),
            "trials": [asdict(row) for row in found],
        },
    )
