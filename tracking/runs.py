"""A training as a run of MLflow: parameters, curves while it trains, its model, its code and data.

A training that is killed and started again goes on in its run, found by the key that its checkpoint
has too. What a server did not take is tried again, and at the latest when the version is exported.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recommender.files import read_json
from tracking.names import metrics, parameters
from tracking.registry import MODEL
from tracking.source_code import code_tags
from tracking.store import Store, TrackingError, explained

if TYPE_CHECKING:
    from mlflow.entities import Run

KEY_TAG = "kuberec.training"
CURVES, EVALUATION = "curves", "evaluation"
_DIGEST = 36  # characters that MLflow takes of a dataset's digest

Say = Callable[[str], None]


@dataclass
class TrainingRun:
    """One training's run. Without a store all of it does nothing.

    Attributes:
        id: MLflow's; "" where nothing is tracked.
    """

    store: Store | None
    id: str = ""
    say: Say = lambda text: None
    _known: int = -1  # the last epoch that is in the store
    _waiting: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def log(self, epoch: int, row: Mapping[str, float]) -> None:
        """Add a row of the curves; one that the store has already is not added twice."""
        if self.store is None or epoch <= self._known:
            return
        self._waiting.append((epoch, dict(row)))
        try:
            self._flush()
        except TrackingError as error:  # a training is not ended by a server's restart
            self.say(f"{len(self._waiting)} epochs wait for MLflow: {error}")

    def finish(self, model_dir: Path) -> None:
        """Add what is missing of the curves, the summary and the model; end the run well.

        Args:
            model_dir: as `train` wrote it.

        Raises:
            TrackingError: the store does not take it.
        """
        if self.store is None:
            return
        record = read_json(model_dir / "training.json")
        queued = {epoch for epoch, _ in self._waiting}
        rows = [(int(row["epoch"]), row) for row in record["curves"]]
        self._waiting += [
            (epoch, row) for epoch, row in rows if epoch > self._known and epoch not in queued
        ]
        self._flush()
        best = record["curves"][record["best_epoch"]]
        found = metrics({key: value for key, value in best.items() if key != "seconds"}, "best")
        found |= metrics({key: record[key] for key in ("parameters", "seconds")}, "training")
        _log_metrics(self.store, self.id, found)
        with explained(self.store):
            self.store.client.log_artifacts(self.id, str(model_dir), MODEL)
            self.store.client.set_terminated(self.id, "FINISHED")

    def _flush(self) -> None:
        assert self.store is not None
        while self._waiting:
            epoch, row = self._waiting[0]
            values = {key: value for key, value in row.items() if key != "epoch"}
            _log_metrics(self.store, self.id, metrics(values, CURVES), epoch)
            self._known = max(self._known, epoch)
            self._waiting.pop(0)


@contextmanager
def training_run(
    store: Store | None,
    key: str,
    sections: Mapping[str, Any],
    inputs: Mapping[str, str],
    say: Say = lambda text: None,
) -> Iterator[TrainingRun]:
    """Open the run of a training, or go on with the one that was left; mark how it ends.

    Args:
        store: None: nothing is tracked.
        key: names the training by all that its result depends on.
        sections: the config, by section.
        inputs: fingerprint by the dataset's name.
        say: told what has to wait.

    Raises:
        TrackingError: the store does not take it.
    """
    if store is None:
        yield TrainingRun(None)
        return
    run = _open(store, key, sections, inputs, say)
    try:
        yield run
    except BaseException as error:
        killed = not isinstance(error, Exception)
        try:
            with explained(store):
                store.client.set_tag(run.id, "kuberec.ended", " ".join(str(error).split())[:500])
                store.client.set_terminated(run.id, "KILLED" if killed else "FAILED")
        except TrackingError as unreachable:
            say(str(unreachable))
        raise


def completed(
    store: Store,
    run: str,
    key: str,
    sections: Mapping[str, Any],
    inputs: Mapping[str, str],
    model_dir: Path,
) -> str:
    """`run`, after adding what the store lacks of it; a new run where it is unknown there.

    That is so where the training could not reach the store, or a cached result's run was deleted.
    """
    known = _known(store, run)
    if known is not None:
        if known.info.status == "FINISHED":
            return run
        opened = TrainingRun(store, run, _known=_last_epoch(store, run))
    else:
        opened = _open(store, key, sections, inputs, lambda text: None)
    opened.finish(model_dir)
    return opened.id


def log_evaluation(store: Store, run: str, report: Path) -> None:
    """Add the metrics of evaluation.json to the run, and the file itself.

    Raises:
        TrackingError: the store does not take it.
    """
    result = read_json(report)
    if not _known(store, run):  # a cached training's, deleted; the export writes it anew
        return
    found = {
        f"{split}/{name}": value
        for split in ("valid", "test")
        for ranker, values in result.get(split, {}).items()
        for name, value in metrics(values, "" if ranker == "model" else ranker).items()
    }
    for metric, (low, high) in (result.get("intervals") or {}).items():
        found |= metrics({"low": low, "high": high}, f"test/{metric}")
    found |= metrics(result.get("unmasked") or {}, "test/unmasked")
    for row in result.get("slices") or []:
        found |= metrics({"ndcg@10": row["ndcg@10"]}, f"slice/{row['by']}/{row['slice']}")
    _log_metrics(store, run, found)
    add_json(store, run, f"{EVALUATION}/evaluation.json", result)


def add_json(store: Store, run: str, path: str, content: Any) -> None:
    """Write a JSON artifact of the run."""
    with explained(store):
        store.client.log_dict(run, content, path)


def add_tags(store: Store, run: str, tags: Mapping[str, str]) -> None:
    """Set tags of the run."""
    from mlflow.entities import RunTag

    with explained(store):
        store.client.log_batch(run, tags=[RunTag(key, value) for key, value in tags.items()])


def _open(
    store: Store, key: str, sections: Mapping[str, Any], inputs: Mapping[str, str], say: Say
) -> TrainingRun:
    from mlflow.entities import Dataset, DatasetInput, Param

    experiment = store.experiment_id()
    with explained(store):
        left = [
            each
            for each in store.client.search_runs(
                [experiment], f"tags.`{KEY_TAG}` = '{key}'", order_by=["attributes.start_time DESC"]
            )
            if each.info.status != "FINISHED"
        ]
        if left:
            run = left[0].info.run_id
            store.client.update_run(run, status="RUNNING")
        else:
            tags = {KEY_TAG: key, "mlflow.source.name": "kuberec train"} | code_tags()
            tags |= {f"{name}_fingerprint": value for name, value in inputs.items()}
            made = store.client.create_run(
                experiment, tags=tags, run_name=f"{store.experiment}-{key[:8]}"
            )
            run = made.info.run_id
        # Also of a run that was left: what opened it may have been killed before it came here.
        params = [Param(name, value) for name, value in parameters(sections).items()]
        for start in range(0, len(params), 100):  # the most that MLflow takes at once
            store.client.log_batch(run, params=params[start : start + 100])
        datasets = [
            DatasetInput(Dataset(name, value[:_DIGEST], "kuberec", f'{{"sha256": "{value}"}}'))
            for name, value in inputs.items()
        ]
        store.client.log_inputs(run, datasets)
    return TrainingRun(store, run, say, _last_epoch(store, run) if left else -1)


def _known(store: Store, run: str) -> "Run | None":
    """The run; None where the store has none of this id, or it was deleted."""
    from mlflow.exceptions import MlflowException

    if not run:
        return None
    with explained(store):
        try:
            found = store.client.get_run(run)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
    return found if found.info.lifecycle_stage == "active" else None


def _last_epoch(store: Store, run: str) -> int:
    with explained(store):
        rows = store.client.get_metric_history(run, f"{CURVES}/train_loss")
    return max((row.step for row in rows), default=-1)


def _log_metrics(store: Store, run: str, values: Mapping[str, float], step: int = 0) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    rows = [Metric(name, value, now, step) for name, value in values.items()]
    with explained(store):
        for start in range(0, len(rows), 500):
            store.client.log_batch(run, metrics=rows[start : start + 500])
