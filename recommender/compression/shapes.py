"""What each step makes of a model's shape, worked out before anything is trained.

Light to import: a run's YAML is checked with it.
"""

import math

from recommender.errors import KuberecError
from recommender.row_codes import BLOCKS
from recommender.settings import (
    BlockShape,
    DistilStep,
    Int8ItemsStep,
    ModelConfig,
    ProductItemsStep,
    PruneStep,
)
from recommender.settings.compression.sparsify import COLUMNS


def kept_of(name: str, kept: float | None, there: int) -> int:
    """How many of `there` stay by a setting of `prune`, 1 to `there`.

    Raises:
        KuberecError: more are to stay than there are, or none would.
    """
    if kept is None:
        return there
    if kept >= 1:
        if kept > there:
            raise KuberecError(
                f"{name}: {kept:g} are to be kept, but there are {there}: give 1 to {there}, or a "
                "share below 1"
            )
        return int(kept)
    count = math.floor(kept * there + 0.5)
    if not count:
        raise KuberecError(
            f"{name}: a share of {kept:g} of {there} leaves none: give a share of at least "
            f"{0.5 / there:.2g}, or a number"
        )
    return count


def kept_of_all(name: str, share: float, sizes: list[int]) -> int:
    """How many of all blocks' together stay, with `scope: global`; `sizes`: of each block.

    Raises:
        KuberecError: fewer than one a block would.
    """
    there = sum(sizes)
    count = math.floor(share * there + 0.5)
    if count < len(sizes):
        raise KuberecError(
            f"{name}: a share of {share:g} of {there} leaves {count}, and each of the "
            f"{len(sizes)} blocks needs one: give at least {(len(sizes) - 0.5) / there:.2g}"
        )
    return count


def check_prunable(shape: ModelConfig, step: PruneStep) -> None:
    """Raises KuberecError where `step` asks for what a model of this shape has not."""
    if shape.backbone == "hf":
        raise KuberecError(
            "a Hugging Face decoder is not pruned: distil it first, into a Transformer"
        )
    if shape.backbone == "hstu" and step.feedforward is not None:
        raise KuberecError("feedforward: backbone hstu has no MLP: leave the key out")


def pruned_shape(shape: ModelConfig, step: PruneStep) -> ModelConfig:
    """The shape after `prune`, as far as settings tell it.

    Which blocks stay the weights will tell, here it is the first; with `scope: global` also which
    of them keep how many heads and units, here all.

    Raises:
        KuberecError: the step leaves nothing, or keeps more than there is.
    """
    check_prunable(shape, step)
    blocks = shape.shapes()[: kept_of("layers", step.layers, shape.layers)]
    heads, inner = step.heads, step.feedforward
    if step.scope == "global":
        if heads is not None:
            kept_of_all("heads", heads, [block.heads for block in blocks])
        if inner is not None:
            kept_of_all("feedforward", inner, [block.inner or 0 for block in blocks])
        heads = inner = None  # who gives how many is not known yet
    return with_blocks(
        shape,
        [
            BlockShape(
                heads=kept_of("heads", heads, block.heads),
                head_dim=block.head_dim,
                inner=block.inner and kept_of("feedforward", inner, block.inner),
            )
            for block in blocks
        ],
    )


def with_blocks(shape: ModelConfig, blocks: list[BlockShape], **changes: object) -> ModelConfig:
    """The shape with these blocks; where they are what `shape` says anyhow, it says no more."""
    rest = shape.model_dump() | {"layers": len(blocks), "blocks": None} | changes
    alike = ModelConfig.model_validate(rest)
    if alike.shapes() == blocks:
        return alike
    return ModelConfig.model_validate(rest | {"blocks": [block.model_dump() for block in blocks]})


def student_shape(shape: ModelConfig, step: DistilStep) -> ModelConfig:
    """The shape that `distil` makes of one: a student's blocks are alike, whatever they were.

    What the step leaves out is as before it; where prune has cut widths, as it left them.

    Raises:
        KuberecError: the student's numbers do not fit together.
    """
    dim = step.dim or shape.dim
    cut = _cut_block(shape, step)
    if cut is not None:
        return _student(shape, step, dim, shape.heads, shape.feedforward, cut)
    heads, feedforward = step.heads or shape.heads, step.feedforward or shape.feedforward
    if dim % heads:
        raise KuberecError(
            f"dim: {dim} is no multiple of heads ({heads}): give both in the step, or none"
        )
    if shape.position == "rotary" and dim // heads % 2:
        raise KuberecError(
            f"dim / heads is {dim // heads}, and position: rotary needs an even number: give other "
            "dim or heads in the step"
        )
    return _student(shape, step, dim, heads, feedforward, None)


def _cut_block(shape: ModelConfig, step: DistilStep) -> BlockShape | None:
    """The student's block where prune has cut widths that the step says nothing of."""
    if shape.blocks is None or (step.heads is not None and step.feedforward is not None):
        return None
    blocks = shape.shapes()
    same_width = (step.dim or shape.dim) == shape.dim and step.backbone in (None, shape.backbone)
    if step.heads is None and step.feedforward is None and same_width:
        if all(block == blocks[0] for block in blocks):
            return blocks[0]
        raise KuberecError(
            "the blocks are unlike after prune, and a student's are alike: give heads and "
            "feedforward"
        )
    raise KuberecError(
        "heads, feedforward: prune has cut them, and the student has another width, or one of "
        "them alone is given: give both, or neither of dim, backbone, heads and feedforward"
    )


def _student(
    shape: ModelConfig,
    step: DistilStep,
    dim: int,
    heads: int,
    feedforward: float,
    block: BlockShape | None,
) -> ModelConfig:
    """`block`: of every layer, instead of what `heads` and `feedforward` make."""
    length = step.max_length or shape.max_length
    if length > shape.max_length:
        raise KuberecError(
            f"max_length: the student would read {length} items, its teacher reads "
            f"{shape.max_length}: give {shape.max_length} or fewer"
        )
    backbone = step.backbone or ("transformer" if shape.backbone == "hf" else shape.backbone)
    student = ModelConfig.model_validate(
        shape.model_dump()
        | {
            "backbone": backbone,
            "hf": None,
            "max_length": length,
            "dim": dim,
            "layers": step.layers,
            "heads": heads,
            "feedforward": feedforward,
            "dropout": step.dropout,
            "blocks": None,
        }
        # Texts are in the directions that a narrower student starts from: nothing to weigh.
        | ({"fusion": "sum"} if dim != shape.dim else {})
    )
    return student if block is None else with_blocks(student, [block] * step.layers)


def check_no_larger(student: ModelConfig, full: ModelConfig) -> None:
    """Raises KuberecError where no width of a student is below the full model's, and one above.

    By settings alone; where some are below and some above the weights tell
    (`soundness.require_smaller`). A Hugging Face decoder's shape is not in its settings.
    """
    if full.hf is not None:
        return
    sizes = {
        "dim": (student.dim, full.dim),
        "layers": (student.layers, full.layers),
        "heads x head_dim": (_widest(student, "heads"), _widest(full, "heads")),
        "the MLP's width": (_widest(student, "inner"), _widest(full, "inner")),
    }
    larger = [name for name, (own, its) in sizes.items() if own > its]
    if larger and all(own >= its for own, its in sizes.values()):
        said = ", ".join(f"{name} {sizes[name][0]} of {sizes[name][1]}" for name in larger)
        raise KuberecError(
            f"the student is larger than the full model ({said}): lower the step's dim, layers or "
            "feedforward"
        )


def _widest(shape: ModelConfig, part: str) -> int:
    return max(
        block.heads * block.head_dim if part == "heads" else block.inner or 0
        for block in shape.shapes()
    )


def check_sparsifiable(shape: ModelConfig) -> None:
    """Raises KuberecError where sparse kernels would not take a block's linear layers."""
    if shape.backbone == "hf":
        raise KuberecError(
            "a Hugging Face decoder is not made sparse: distil it first, into a Transformer"
        )
    widths = {"dim": shape.dim}
    for index, block in enumerate(shape.shapes()):
        widths[f"heads x head_dim of block {index}"] = block.heads * block.head_dim
        if block.inner is not None:
            widths[f"the MLP's width of block {index}"] = block.inner
    for name, width in widths.items():
        if width % COLUMNS:
            raise KuberecError(
                f"{name} is {width}: NVIDIA's 2:4 kernels read multiples of {COLUMNS}: train or "
                "distil with such widths, or let prune keep such numbers"
            )


def check_items_shape(step: Int8ItemsStep | ProductItemsStep, dim: int) -> None:
    """Raises KuberecError, with what fits, where a table of this width is not quantised so."""
    if isinstance(step, Int8ItemsStep):
        if dim % BLOCKS[-1]:
            raise KuberecError(
                f"kind: int8-rows: ONNX Runtime's 8-bit product reads {BLOCKS[-1]} numbers at a "
                f"time, and dim = {dim} is no multiple of that: choose another dim, or kind: pq"
            )
    elif dim % step.subvectors:
        fitting = [count for count in range(1, dim + 1) if dim % count == 0]
        raise KuberecError(
            f"kind: pq: subvectors = {step.subvectors} does not divide dim = {dim}: "
            f"choose one of {', '.join(map(str, fitting))}"
        )
