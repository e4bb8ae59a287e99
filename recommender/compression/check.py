"""check_steps(): what cannot come to a good end is said before the first step begins.

Light to import: `check_shapes` is asked of a run's YAML too, before anything is trained.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from recommender.compression.half import require_half
from recommender.compression.shapes import (
    check_items_shape,
    check_no_larger,
    check_sparsifiable,
    pruned_shape,
    student_shape,
)
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
    from recommender.sequences import Split


_HALF_BYTES = (
    "precision: float16 and items as bytes (kind: int8-rows) do not go together: float16 is for "
    "GPUs, and TensorRT does not know the product of bytes (MatMulNBits): take kind: pq beside "
    "float16, or precision: int8 beside int8-rows"
)


def check_steps(
    config: CompressionConfig, model: "SequentialRecommender", splits: Mapping[str, "Split"]
) -> None:
    """Walk through all steps with the full model, without training or measuring anything.

    Args:
        splits: train and valid, which requests for the ranges of INT8 are drawn from.

    Raises:
        KuberecError: naming the step by its place in the list, what is wrong, and what to do: a
            weight that is no number, a step that leaves nothing, keeps more than there is, makes
            a student larger than the full model, undoes the one before it, or whose calibration
            histories are too few or unlike those of validation.
    """
    from recommender.compression.calibration import calibration_requests
    from recommender.compression.soundness import require_finite

    require_finite(model, "the full model")
    shapes = check_shapes(config.steps, model.config)
    for index, step in enumerate(config.steps):
        with named_step(index, step):
            match step:
                case DistilStep():
                    _check_smaller(shapes[index], model)
                case QuantiseStep() if step.precision == "int8":
                    calibration_requests(splits, step, shapes[index], model.log_popularity.numpy())


def check_shapes(steps: Sequence[Step], shape: ModelConfig) -> list[ModelConfig]:
    """The same by settings alone; the shape after each step, as far as settings tell it.

    Raises:
        KuberecError: as `check_steps`, but of the weights.
    """
    walk = _Walk(shape)
    shapes = []
    for index, step in enumerate(steps):
        with named_step(index, step):
            walk.take(step)
        shapes.append(walk.shape)
    return shapes


class _Walk:
    """A model's shape and form as far as a list of steps has come; each step says what is wrong."""

    def __init__(self, full: ModelConfig) -> None:
        self.full = self.shape = full
        self.sparse = self.coded = self.bytes_of_items = self.half = False
        self.rounded = False  # by a quantise behind which nothing was trained
        self.unsure = False  # which widths are left is told by the weights

    def take(self, step: Step) -> None:
        match step:
            case PruneStep():
                self.prune(step)
            case SparsifyStep():
                self.sparsify()
            case DistilStep():
                self.distil(step)
            case QuantiseStep():
                self.quantise(step)
            case Int8ItemsStep():
                self.int8_items(step)
            case ProductItemsStep():
                self.product_items(step)

    def prune(self, step: PruneStep) -> None:
        if self.sparse:
            raise KuberecError(
                "cutting columns out breaks the groups of four that sparsify made: put prune "
                "before sparsify"
            )
        cuts_widths = step.heads is not None or step.feedforward is not None
        if self.unsure and cuts_widths:
            raise KuberecError(
                "which widths the last prune with scope: global leaves is not known before it is "
                "done, so that heads and feedforward cannot be cut again: give one of the two "
                "scope: layer, or cut once"
            )
        self.unsure = self.unsure or (cuts_widths and step.scope == "global")
        self.shape = pruned_shape(self.shape, step)
        self.rounded = False

    def sparsify(self) -> None:
        if self.unsure:
            raise KuberecError(
                "the widths that prune with scope: global leaves are not known before it is done, "
                "and 2:4 kernels do not read all: give it scope: layer"
            )
        check_sparsifiable(self.shape)
        self.sparse = True
        self.rounded = False

    def distil(self, step: DistilStep) -> None:
        if self.unsure and (step.heads is None or step.feedforward is None):
            raise KuberecError(
                "a student's blocks are alike, and prune with scope: global leaves them unlike: "
                "give heads and feedforward"
            )
        if self.sparse:
            raise KuberecError(
                "the student would be without the zeros that sparsify made: put sparsify behind "
                "distil"
            )
        if self.coded and (step.dim or self.shape.dim) != self.shape.dim:
            raise KuberecError(
                f"dim: the items are codes of {self.shape.dim} numbers by then, not of "
                f"{step.dim}: put quantise-items behind distil"
            )
        self.shape = student_shape(self.shape, step)
        check_no_larger(self.shape, self.full)
        if self.bytes_of_items:
            check_items_shape(Int8ItemsStep(), self.shape.dim)
        self.unsure = self.rounded = False

    def quantise(self, step: QuantiseStep) -> None:
        require_half(step.precision)
        self.half = step.precision == "float16"
        if self.half and self.bytes_of_items:
            raise KuberecError(_HALF_BYTES)
        if self.rounded:
            raise KuberecError(
                "nothing was trained since the last quantise, which this one replaces: leave one "
                "of the two out"
            )
        self.rounded = True

    def int8_items(self, step: Int8ItemsStep) -> None:
        if self.bytes_of_items:
            raise KuberecError("the items are bytes by then: leave one of the two out")
        if self.half:
            raise KuberecError(_HALF_BYTES)
        check_items_shape(step, self.shape.dim)
        self.bytes_of_items = True

    def product_items(self, step: ProductItemsStep) -> None:
        if self.coded:
            raise KuberecError("the items are codes by then: leave one of the two out")
        check_items_shape(step, self.shape.dim)
        self.coded = True
        self.rounded = False


def settled_scoring(steps: Sequence[Step], export: ExportConfig, items: int) -> ExportConfig:
    """`export` with `scoring` settled for a catalogue and a list of steps: exact or two-stage.

    `auto` is exact where a step wants what two stages have not: it must not fail after hours.
    """
    if export.scoring != "auto":
        return export
    from recommender.large_catalogue import wants_two_stages

    two_stages = wants_two_stages(export, items) and not any(map(without_two_stages, steps))
    return export.model_copy(update={"scoring": "two-stage" if two_stages else "exact"})


def check_scoring(steps: Sequence[Step], export: ExportConfig) -> None:
    """Raises KuberecError where `scoring: two-stage` has no graph for a step, or no use of it."""
    for index, step in enumerate(steps):
        problem = without_two_stages(step)
        if export.scoring == "two-stage" and problem:
            with named_step(index, step):
                raise KuberecError(f"export.scoring = two-stage: {problem}")


def without_two_stages(step: Step) -> str | None:
    """Why a ranker of two stages and a step do not go together, and what to do."""
    match step:
        case QuantiseStep() if step.precision == "float16":
            return (
                "a ranker of two stages is for CPUs, and float16 is for GPUs: take precision: "
                "int8, or set export.scoring: exact"
            )
        case Int8ItemsStep() | ProductItemsStep():
            return (
                "a ranker of two stages keeps its items in cells, as bytes by "
                "export.two_stage.int8: leave the step out, or set export.scoring: exact"
            )
    return None


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
def named_step(index: int, step: Step) -> Iterator[None]:
    """What is wrong with a step is said with its place in the list, from 0."""
    try:
        yield
    except KuberecError as error:
        said = str(error).removeprefix(f"{step.step}: ").removeprefix("compression.steps, ")
        raise KuberecError(f"compression.steps.{index} ({step.step}): {said}") from error
