"""check_steps(): what cannot come to a good end is said before the first step begins.

Light to import: `check_shapes` is asked of a run's YAML too, before anything is trained.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from recommender.compression.half import require_half
from recommender.compression.shapes import check_sparsifiable, pruned_shape, student_shape
from recommender.errors import KuberecError
from recommender.settings import (
    CompressionConfig,
    DistilStep,
    ExportConfig,
    Int8ItemsStep,
    ModelConfig,
    ProductItemsStep,
    PruneStep,
    QuantiseStep,
    SparsifyStep,
)
from recommender.settings.compression import Step

if TYPE_CHECKING:
    from recommender.model import SequentialRecommender


def check_steps(config: CompressionConfig, model: "SequentialRecommender") -> None:
    """Walk through all steps with the full model, without training or measuring anything.

    Raises:
        KuberecError: naming the step by its place in the list, what is wrong, and what to do: a
            weight that is no number, a step that leaves nothing, keeps more than there is, makes
            a student larger than the full model, or undoes the one before it.
    """
    from recommender.compression.quantise_items import check_items
    from recommender.compression.soundness import require_finite

    require_finite(model, "the full model")
    shapes = check_shapes(config.steps, model.config)
    for index, step in enumerate(config.steps):
        with _named(index, step):
            match step:
                case DistilStep():
                    _check_smaller(shapes[index], model)
                case Int8ItemsStep() | ProductItemsStep():
                    check_items(step, shapes[index].dim, model.text_vectors.shape[0] - 1)


def check_shapes(steps: Sequence[Step], shape: ModelConfig) -> list[ModelConfig]:
    """The same by settings alone; the shape after each step, as far as settings tell it.

    Raises:
        KuberecError: as `check_steps`, but of the weights.
    """
    shapes = []
    sparse = coded = False
    unsure = False  # which widths are left is told by the weights
    for index, step in enumerate(steps):
        with _named(index, step):
            match step:
                case PruneStep():
                    if sparse:
                        raise KuberecError(
                            "cutting columns out breaks the groups of four that sparsify made: "
                            "put prune before sparsify"
                        )
                    cuts_widths = step.heads is not None or step.feedforward is not None
                    unsure = unsure or (cuts_widths and step.scope == "global")
                    shape = pruned_shape(shape, step)
                case DistilStep():
                    if sparse:
                        raise KuberecError(
                            "the student would be without the zeros that sparsify made: put "
                            "sparsify behind distil"
                        )
                    if coded and (step.dim or shape.dim) != shape.dim:
                        raise KuberecError(
                            f"dim: the items are codes of {shape.dim} numbers by then, not of "
                            f"{step.dim}: put quantise-items behind distil"
                        )
                    shape, unsure = student_shape(shape, step), False
                case SparsifyStep():
                    if unsure:
                        raise KuberecError(
                            "the widths that prune with scope: global leaves are not known before "
                            "it is done, and 2:4 kernels do not read all: give it scope: layer"
                        )
                    check_sparsifiable(shape)
                    sparse = True
                case QuantiseStep():
                    require_half(step.precision)
                case ProductItemsStep():
                    if coded:
                        raise KuberecError("the items are codes by then: leave one of the two out")
                    coded = True
        shapes.append(shape)
    return shapes


def check_scoring(steps: Sequence[Step], export: ExportConfig, items: int | None = None) -> None:
    """Raises KuberecError where `export.scoring` has no graph for a step; see `check_steps`.

    `items`: of the catalogue, which decides for `auto`; None where it is not known yet.
    """
    if items is None:
        two_stages = export.scoring == "two-stage"
    else:
        from recommender.large_catalogue import wants_two_stages

        two_stages = wants_two_stages(export, items)
    for index, step in enumerate(steps):
        if two_stages and isinstance(step, QuantiseStep) and step.precision == "float16":
            with _named(index, step):
                raise half_two_stages(export)


def half_two_stages(export: ExportConfig) -> KuberecError:
    """Why a ranker of two stages is not in float16."""
    return KuberecError(
        f"export.scoring = {export.scoring}: a ranker of two stages is for CPUs, its items are "
        "bytes, and float16 is for GPUs: take the step quantise's precision: int8, or set "
        "export.scoring: exact"
    )


def _check_smaller(shape: ModelConfig, full: "SequentialRecommender") -> None:
    """A student of this shape against the full model; it is made without memory for its weights."""
    import torch

    from recommender.compression.soundness import require_smaller
    from recommender.model import SequentialRecommender

    with torch.device("meta"):
        image = full.image_vectors
        student = SequentialRecommender(
            shape,
            full.text_vectors.to("meta"),
            full.log_popularity.to("meta"),
            None if image is None else image.to("meta"),
        )
    require_smaller(student, full)


@contextmanager
def _named(index: int, step: Step) -> Iterator[None]:
    try:
        yield
    except KuberecError as error:
        said = str(error).removeprefix(f"{step.step}: ").removeprefix("compression.steps, ")
        raise KuberecError(f"compression.steps.{index} ({step.step}): {said}") from error
