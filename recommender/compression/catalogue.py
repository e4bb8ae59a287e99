"""check_catalogue(): what cannot come to a good end by the number of items, before any training.

Bytes are counted of the tables with a place for every item alone: the blocks' weights are little
beside them, and `graphs.write_graphs` sees the file itself.
"""

from collections.abc import Sequence

from recommender.compression.check import (
    check_shapes,
    named_step,
    settled_scoring,
    without_two_stages,
)
from recommender.errors import KuberecError
from recommender.settings import (
    DistilStep,
    ExportConfig,
    Int8ItemsStep,
    ModelConfig,
    ProductItemsStep,
    QuantiseStep,
)
from recommender.settings.compression import Step


def check_catalogue(
    steps: Sequence[Step], shape: ModelConfig, export: ExportConfig, items: int
) -> None:
    """Settings against the number of items that a model is trained on.

    Args:
        shape: of the full model.

    Raises:
        KuberecError: longer lists than there are items; or, naming the step by its place in the
            list, more centroids than items, or a graph to be made smaller that is too large for
            one file.
    """
    if export.k > items:
        raise KuberecError(f"export.k = {export.k} is more than the {items} items: lower it")
    export = settled_scoring(steps, export, items)
    smaller = False
    shapes = check_shapes(steps, shape)
    for index, (step, made) in enumerate(zip(steps, shapes, strict=True)):
        smaller = smaller or isinstance(step, QuantiseStep | Int8ItemsStep | ProductItemsStep)
        with named_step(index, step):
            if isinstance(step, ProductItemsStep):
                check_centroids(step, items)
            if smaller:
                _check_one_file(steps, index, made.dim, export, items)


def check_centroids(step: ProductItemsStep, items: int) -> None:
    """Raises KuberecError where codes of so few items would save nothing."""
    if step.centroids > items:
        raise KuberecError(
            f"{step.step}: centroids = {step.centroids} is more than the {items} items, "
            f"so nothing would be saved: choose {min(items, 256)} or fewer"
        )


def item_bytes(export: ExportConfig, items: int, dim: int) -> int:
    """Of the items' rows in the graph that is made smaller, before it is.

    Args:
        export: with `scoring` settled. In one stage the table is there twice, the second time
            transposed, in float32; in two stages once, by `two_stage.int8` as bytes.
    """
    if export.scoring == "exact":
        return 8 * items * dim
    return items * dim * (1 if export.two_stage.int8 else 4)


def _check_one_file(
    steps: Sequence[Step], index: int, dim: int, export: ExportConfig, items: int
) -> None:
    """What makes a graph smaller reads it whole, which protobuf does up to 2 GiB."""
    from recommender.onnx_export import EXTERNAL_BYTES

    found = item_bytes(export, items, dim)
    if found < EXTERNAL_BYTES:
        return
    ways = []
    if export.scoring == "exact":
        without = [str(place) for place, each in enumerate(steps) if without_two_stages(each)]
        out = f" and leave out compression.steps.{', '.join(without)}" if without else ""
        ways.append(
            f"set export.scoring: two-stage{out} (its items are bytes by themselves, and quantise "
            "with precision: int8 goes with it)"
        )
    elif not export.two_stage.int8:
        ways.append("set export.two_stage.int8")
    else:
        ways.append("leave the step out")
    if fitting := EXTERNAL_BYTES // max(item_bytes(export, items, 1), 1):
        before = "before this step " if not isinstance(steps[index], DistilStep) else ""
        ways.append(f"distil it {before}to dim {fitting} or less")
    raise KuberecError(
        f"the ranker's graph is made smaller as one file of up to {EXTERNAL_BYTES:,} bytes, and "
        f"here {items:,} items of dim {dim} are {found:,} bytes of it: {', or '.join(ways)}"
    )
