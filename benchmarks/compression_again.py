"""Rows of the compression benchmark measured once more: by today's exporter, on a quiet machine.

Trainings keep a machine busy for an hour, and what runs beside a measurement is in its times.
Nothing is trained here: of the models that finished steps have left, graphs are written and
quality, size, memory and times measured, one row after the other.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recommender.compression.candidate import Work
from recommender.compression.check import settled_scoring
from recommender.compression.graphs import write_graphs
from recommender.compression.kept import Stage, stage_name
from recommender.compression.quality import Judge
from recommender.compression.stages import stage_costs, stage_gains
from recommender.evaluation.catalogue import load_catalogue
from recommender.evaluation.slices import Slice, make_slices
from recommender.model import SequentialRecommender, load_model
from recommender.sequences import Split, Vocabulary, item_counts, load_windows
from recommender.settings import CompressionConfig, EvaluationConfig, ExportConfig


@dataclass(frozen=True)
class Again:
    """Attributes:
    model: the full model's folder; windows, snapshot: what it was trained on.
    stages: the folder of finished steps (recommender.compression.kept), of any code.
    scratch: where the graphs are written.
    """

    model: Path
    windows: Path
    snapshot: Path
    stages: Path
    export: ExportConfig
    evaluation: EvaluationConfig
    scratch: Path

    @cached_property
    def full(self) -> Stage:
        return self.stage([])

    @cached_property
    def teacher(self) -> SequentialRecommender:
        return load_model(self.model)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.load(self.model / "vocabulary.json")

    @cached_property
    def splits(self) -> dict[str, Split]:
        return load_windows(self.windows, self.vocabulary)

    @cached_property
    def slices(self) -> list[Slice]:
        counts_N1 = item_counts(self.splits["train"].histories, len(self.vocabulary))
        catalogue = load_catalogue(self.snapshot, self.vocabulary)
        return make_slices(self.splits["test"], counts_N1, self.evaluation, catalogue)

    def stage(self, steps: Sequence[Any]) -> Stage:
        """The finished last step of `steps` with graphs and gains of today's code."""
        old = self.kept(steps)
        folder = self.scratch / stage_name(steps)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        export = settled_scoring(steps, self.export, len(self.vocabulary))
        work = Work(self.teacher, self.splits, export, folder)
        place = write_graphs(old.candidate, work, folder).served
        shape, test = old.candidate.model.config, self.splits["test"]
        gains = stage_gains(place, shape, test, export, self.evaluation)
        return Stage(old.candidate, folder, gains, old.row)

    def rows(self, steps: Sequence[Any]) -> list[dict[str, Any]]:
        """The ledger's rows of a list of steps: the last one new, those on its way as they were."""
        typed = CompressionConfig(steps=list(steps)).steps
        way = [self.kept(typed[:count]).row for count in range(len(typed))]
        return [*way, self.row(typed)]

    def kept(self, steps: Sequence[Any]) -> Stage:
        """The finished last step of `steps`."""
        (folder,) = self.stages.glob(f"*/{stage_name(steps)}")
        return Stage.load(folder, None if steps else self.teacher)

    def row(self, steps: Sequence[Any]) -> dict[str, Any]:
        """The row of the last of `steps`; what the step took is what it once took."""
        stage = self.stage(steps) if steps else self.full
        before = None
        if steps:
            before = self.full.gains if len(steps) == 1 else self.kept(steps[:-1]).gains
        shape, full = stage.candidate.model.config, self.full if steps else None
        quality = Judge(self.slices, self.evaluation, self.full.gains).quality(stage.gains, before)
        costs = stage_costs(stage.place, shape, full, self.splits["test"], self.export)
        row = {key: value for key, value in stage.row.items() if key != "curve"} | quality | costs
        if steps:
            shutil.rmtree(stage.folder)
        return row
