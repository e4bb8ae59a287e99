"""What a compression step takes and gives: a model, and how its graph is to be written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recommender.model import SequentialRecommender
from recommender.progress import Progress, silent
from recommender.sequences import Split
from recommender.settings import ExportConfig, QuantiseStep

Told = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Form:
    """How the ranker's graph is written, whatever the model: kept so that steps go in any order.

    A step that quantises adds to the form; a later one that trains changes the model beneath it,
    and the graph is quantised anew, with ranges of the new model.

    Attributes:
        quantised: of the weights and activations; None: they stay float32.
        int8_items: the item table is bytes, with a scale a row (recommender.item_graphs).
    """

    quantised: QuantiseStep | None = None
    int8_items: bool = False


@dataclass(frozen=True)
class Candidate:
    """The model between two steps.

    Attributes:
        model: in evaluation mode.
        form: how its graph is written.
        curve: of the step that made it, a row an epoch; empty where nothing was trained.
    """

    model: SequentialRecommender
    form: Form = Form()
    curve: list[dict[str, float]] = field(default_factory=list)

    def of(self, model: SequentialRecommender, curve: list[dict[str, float]]) -> "Candidate":
        """Another model in the same form."""
        return Candidate(model, self.form, curve)

    def written(self, **changes: Any) -> "Candidate":
        """The same model in another form."""
        return Candidate(self.model, replace(self.form, **changes))


@dataclass(frozen=True)
class Work:
    """What every step may read.

    Attributes:
        teacher: the full model, which all that is trained learns from.
        splits: train, valid and test; steps read train, and valid for the reader of their curves.
        export: the shapes of the graph.
        folder: scratch, for the graphs of one candidate at a time.
        progress: told of epochs, and of what takes long.
        row_made: told of each row of the ledger, once a candidate is measured.
    """

    teacher: SequentialRecommender
    splits: dict[str, Split]
    export: ExportConfig
    folder: Path
    progress: Progress = silent
    row_made: Told = lambda row: None
