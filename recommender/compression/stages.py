"""The candidates of a compression, one after the other, each measured before the next is made."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recommender.compression.candidate import Candidate, Work
from recommender.compression.check import named_step
from recommender.compression.graphs import write_graphs
from recommender.compression.kept import Stage, stage_name
from recommender.compression.latency import LOOPS
from recommender.compression.ledger import measured_costs
from recommender.compression.quality import Gains, Judge, measure_gains
from recommender.compression.rankers import TORCH
from recommender.compression.steps import take
from recommender.evaluation.slices import Slice
from recommender.export import NoGraph
from recommender.files import atomic_directory
from recommender.model import save_model
from recommender.ranker_inputs import ranker_inputs
from recommender.sequences import Split
from recommender.settings import DistilStep, EvaluationConfig, ExportConfig, ModelConfig
from recommender.settings.compression import Step

FULL = "full"
TIMED_USERS = 10 * max(LOOPS)  # whose requests the loops cycle through


@dataclass(frozen=True)
class Stages:
    """Makes them, or takes from `kept` those that are finished.

    Attributes:
        vocabulary: item ids, for the models that are saved.
        slices: of the test users.
        kept: a folder (recommender.compression.kept).
    """

    work: Work
    vocabulary: list[str]
    evaluation: EvaluationConfig
    slices: Sequence[Slice]
    kept: Path

    def all(self, steps: Sequence[Step], names: Sequence[str]) -> list[Stage]:
        """The full model's stage, and one a step.

        Raises:
            NoGraph: ONNX has none for a decoder that no step distils any more.
        """
        stages = [self._stage(FULL, [], [], distilled(steps))]
        self.work.row_made(stages[-1].row)
        for count, name in enumerate(names, start=1):
            stages.append(self._stage(name, steps[:count], stages, distilled(steps[count:])))
            self.work.row_made(stages[-1].row)
        return stages

    def _stage(
        self, name: str, steps: Sequence[Step], before: Sequence[Stage], in_torch: bool
    ) -> Stage:
        """`in_torch`: it may be measured there, since a later step distils it."""
        folder = self.kept / stage_name(steps)
        if folder.is_dir():
            stage = Stage.load(folder, None if before else self.work.teacher)
            if in_torch or stage.row["runtime"] != TORCH:
                self.work.progress(0, 0, f"{name}: as an earlier run left it")
                # The same step has another name where a config has it once more, later on.
                return replace(stage, row=stage.row | {"step": name})
        with atomic_directory(folder) as draft:
            wall, processor = time.perf_counter(), time.process_time()
            if before:
                with named_step(len(steps) - 1, steps[-1]):
                    candidate = take(steps[-1], before[-1].candidate, self.work)
                    place = self._written(candidate, draft, in_torch)
            else:
                candidate = Candidate(self.work.teacher)
                place = self._written(candidate, draft, in_torch)
            took = {
                "seconds": round(time.perf_counter() - wall, 3),
                "processor_seconds": round(time.process_time() - processor, 3),
                "epochs": len(candidate.curve),
                "curve": candidate.curve,
            }
            self.work.progress(0, 0, f"{name}: measuring")
            test, export, shape = self.work.splits["test"], self.work.export, candidate.model.config
            gains = stage_gains(place, shape, test, export, self.evaluation)
            judge = Judge(self.slices, self.evaluation, before[0].gains if before else gains)
            row: dict[str, Any] = {
                "step": name,
                **judge.quality(gains, before[-1].gains if before else None),
                **stage_costs(place, shape, before[0] if before else None, test, export),
                **took,
            }
            Stage(candidate, draft, gains, row).save(self.vocabulary)
        return Stage(candidate, folder, gains, row)

    def _written(self, candidate: Candidate, folder: Path, in_torch: bool) -> Path:
        """The candidate as it would serve, in `folder`; a decoder without a graph as its model."""
        try:
            return write_graphs(candidate, self.work, folder).served
        except NoGraph as error:
            if not in_torch:
                raise
            self.work.progress(0, 0, f"measured in torch: {str(error).splitlines()[0]}")
            place = folder / TORCH
            place.mkdir()
            save_model(candidate.model, self.vocabulary, place)
            return place


def stage_gains(
    place: Path, shape: ModelConfig, test: Split, export: ExportConfig, evaluation: EvaluationConfig
) -> Gains:
    """Of every test user; `shape`: of the model whose ranker is at `place`."""
    return measure_gains(place, test, shape, export.k, export.max_seen, evaluation.new_user_events)


def stage_costs(
    place: Path, shape: ModelConfig, full: Stage | None, test: Split, export: ExportConfig
) -> dict[str, Any]:
    """Size, memory and times, in turns with the full model's; of the full model itself: None."""
    own = some_requests(test, shape, export.max_seen)
    if full is None:
        return measured_costs(place, place, own, own, export.k)
    whole = some_requests(test, full.candidate.model.config, export.max_seen)
    return measured_costs(place, full.place, own, whole, export.k)


def distilled(steps: Sequence[Step]) -> bool:
    """Whether one of them makes a model of ours, which has a graph, of any decoder."""
    return any(isinstance(step, DistilStep) for step in steps)


def some_requests(test: Split, config: ModelConfig, max_seen: int) -> tuple[np.ndarray, ...]:
    """Some test users', evenly over the split, as a ranker of `config` takes them."""
    rows = np.linspace(0, len(test) - 1, min(len(test), TIMED_USERS)).astype(int)
    times = test.times_for(config)
    return ranker_inputs(
        [test.histories[row] for row in rows],
        config.max_length,
        max_seen,
        None if times is None else [times[row] for row in rows],
    )
