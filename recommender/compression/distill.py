"""A smaller student that learns from the full model's scores."""

import copy

import torch

from recommender.compression.learning import learn
from recommender.compression.shapes import student_shape
from recommender.compression.soundness import require_smaller
from recommender.errors import KuberecError
from recommender.model import SequentialRecommender
from recommender.progress import Progress, silent
from recommender.sequences import Split
from recommender.settings import DistilStep


def make_student(teacher: SequentialRecommender, config: DistilStep) -> SequentialRecommender:
    """An untrained student that starts from what fits of its teacher.

    As wide as the teacher it takes over the items and evenly spaced blocks (DistilBERT, Sanh et
    al. 2019, arXiv:1910.01108, section 3); narrower, its item embeddings are the teacher's main
    directions (truncated SVD, Eckart and Young 1936). Of another backbone it takes over items
    alone. Of a Hugging Face decoder the student is a Transformer, unless the step names another:
    the decoder's own blocks would be as wide as it is.

    Raises:
        KuberecError: the items are codes, which are as wide as the teacher.
    """
    full = teacher.config
    shape = student_shape(full, config)
    student = SequentialRecommender(
        shape, teacher.text_vectors, teacher.log_popularity, teacher.image_vectors
    )
    if teacher.item_codes is not None:
        if shape.dim != full.dim:
            raise KuberecError(
                f"distil: the items are codes of {full.dim} dimensions, and the student has "
                f"{shape.dim}: put quantise-items behind distil, or leave out the step's dim"
            )
        student.read_codes(copy.deepcopy(teacher.item_codes))
    if shape.dim == full.dim:
        _take_over(teacher, student)
        return student
    with torch.no_grad():
        left_NR, singular_R, _ = torch.linalg.svd(teacher.item_table(), full_matrices=False)
        width = min(shape.dim, len(singular_R))
        student.id_embedding.weight[:, :width] = left_NR[:, :width] * singular_R[:width]
        # Texts and images are in the directions already: their own projections start from nothing.
        if student.text_projection is not None:
            student.text_projection.weight.zero_()
        if student.image is not None:
            student.image.projection.weight.zero_()
    return student


def _take_over(teacher: SequentialRecommender, student: SequentialRecommender) -> None:
    """Copy every weight whose place and shape the student shares with the teacher."""
    last, layers = teacher.config.layers - 1, student.config.layers
    weights = teacher.state_dict()
    for name, value in student.state_dict().items():
        source = name
        if name.startswith("backbone.blocks."):
            _, _, layer, rest = name.split(".", 3)
            source = f"backbone.blocks.{round(int(layer) * last / max(layers - 1, 1))}.{rest}"
        if source in weights and weights[source].shape == value.shape:
            value.copy_(weights[source])


def distil(
    teacher: SequentialRecommender,
    splits: dict[str, Split],
    config: DistilStep,
    progress: Progress = silent,
    start: SequentialRecommender | None = None,
) -> tuple[SequentialRecommender, list[dict[str, float]]]:
    """The student after its last epoch, and its curve (`learning.learn`).

    Args:
        start: what the student's first weights come from; None: the teacher.

    Raises:
        KuberecError: the student is larger than the teacher, or their shapes do not go together.
    """
    torch.manual_seed(config.seed)
    student = make_student(start or teacher, config)
    require_smaller(student, teacher)
    return learn(student, teacher, splits, config, progress)
