"""Pictures of a study as PNG files, and one page that carries them all."""

import base64
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from jinja2 import Environment, PackageLoader, StrictUndefined
from optuna.trial import TrialState

from recommender.files import atomic_file
from tuning.results import Row, best_rows, best_yaml

PAGE = "study.html"
ENOUGH = 2  # complete trials, before a picture shows anything

# File name: title, what it shows.
PICTURES = {
    "history": ("History", "each trial's score, and the best up to then"),
    "epochs": ("Learning curves", "validation NDCG@10 after each epoch; short ones were pruned"),
    "importances": ("Importance", "share of the score's variance that a key explains (fANOVA)"),
    "parallel": ("Trials as lines", "one line a complete trial, dark where the score is high"),
    "slices": ("Key by key", "scores over the values of each key, later trials darker"),
}


def write_pictures(study: optuna.Study, folder: Path, has_importances: bool) -> dict[str, Path]:
    """The pictures that the study has enough trials for, by name."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < ENOUGH:
        return {}
    made = {}
    for name in PICTURES:
        if name == "importances" and not has_importances:
            continue
        path = folder / f"{name}.png"
        with atomic_file(path) as draft:
            draft.write_bytes(_png(_painters()[name], study))
        made[name] = path
    return made


def _painters() -> dict[str, Callable[[optuna.Study], Any]]:
    from optuna.visualization import matplotlib as paint

    return {
        "history": lambda study: paint.plot_optimization_history(study, target_name="NDCG@10"),
        "epochs": paint.plot_intermediate_values,
        "importances": lambda study: paint.plot_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        ),
        "parallel": lambda study: paint.plot_parallel_coordinate(study, target_name="NDCG@10"),
        "slices": lambda study: paint.plot_slice(study, target_name="NDCG@10"),
    }


def _png(painter: Callable[[optuna.Study], Any], study: optuna.Study) -> bytes:
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's pictures are still called experimental
        matplotlib.use("Agg")
        from matplotlib import pyplot

        axes = painter(study)
        first = axes.flat[0] if hasattr(axes, "flat") else axes
        figure = first.figure
        if hasattr(axes, "flat"):
            figure.set_size_inches(3.2 * len(axes), 3.4)
        else:
            figure.set_size_inches(9, 4.2)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        pyplot.close(figure)
        return buffer.getvalue()


def write_page(
    folder: Path,
    name: str,
    found: Sequence[Row],
    importance: Mapping[str, float],
    pictures: Mapping[str, Path],
) -> Path:
    """study.html: table, pictures and the best values; nothing is loaded from elsewhere."""
    made = Environment(
        loader=PackageLoader("tuning", "templates"), autoescape=True, undefined=StrictUndefined
    )
    best = best_rows(found, 10)
    keys = list(dict.fromkeys(key for row in found for key in row.values))
    text = made.get_template(PAGE).render(
        name=name,
        rows=found,
        best=best,
        keys=keys,
        counts={state: sum(row.state == state for row in found) for state in _states(found)},
        importance=importance,
        snippet=best_yaml(best[0].values) if best else "",
        pictures=[
            (*PICTURES[key], base64.b64encode(path.read_bytes()).decode())
            for key, path in pictures.items()
        ],
    )
    with atomic_file(folder / PAGE) as draft:
        draft.write_text(text, encoding="utf-8")
    return folder / PAGE


def _states(found: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.state for row in found))
