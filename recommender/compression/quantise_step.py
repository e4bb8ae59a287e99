"""The step `quantise`: the form of the graph, and training with its rounding where it is needed."""

from pathlib import Path
from tempfile import TemporaryDirectory

from recommender.compression.candidate import Candidate, Work
from recommender.compression.fake_quantise import fake_quantised
from recommender.compression.graphs import write_graphs
from recommender.compression.half import require_half
from recommender.compression.learning import learn, with_dropout
from recommender.compression.quality import answered_gains
from recommender.compression.rankers import open_ranker
from recommender.large_catalogue import wants_two_stages
from recommender.settings import QuantiseStep


def quantise(candidate: Candidate, step: QuantiseStep, work: Work) -> Candidate:
    """The candidate whose graph is quantised, fine-tuned with its rounding as `step.qat` says.

    Raises:
        KuberecError: ONNX Runtime cannot compute in that precision, or the calibration histories
            do not speak for validation's.
    """
    require_half(step.precision)
    static = candidate.written(quantised=step)
    if step.precision == "float16":
        work.progress(
            0, 0, "quantise: GPUs serve the float16 graph; CPUs compute it in float32, no faster"
        )
        return static
    if step.qat == "never" or not step.recovery.epochs:
        return static
    kept = 0.0
    if step.qat == "auto":
        exact, kept = validation_ndcg(static, work)
        if not _served_as_exact(candidate, work):
            # What cells miss, or bytes of the items cost, is not INT8's: no training mends it.
            _, exact = validation_ndcg(candidate.written(quantised=None), work)
        lost = 1 - kept / exact if exact else 0.0
        trains = lost > step.qat_above
        work.progress(
            0,
            0,
            f"quantise: INT8 loses {lost:.2%} of NDCG@10 on validation, "
            f"{'over' if trains else 'within'} qat_above: {step.qat_above:.2%}",
        )
        if not trains:
            return static
    tuned = quantisation_aware(candidate, step, work)
    if step.qat == "auto":
        _, reached = validation_ndcg(tuned, work)
        better = reached > kept
        work.progress(
            0,
            0,
            f"quantise: NDCG@10 on validation {kept:.4f} in INT8, {reached:.4f} trained with it: "
            f"{'taken' if better else 'not taken'}",
        )
        if not better:
            return static
    return tuned


def quantisation_aware(candidate: Candidate, step: QuantiseStep, work: Work) -> Candidate:
    """A copy of the candidate, trained through the rounding of its graph, in the same form."""
    student = with_dropout(candidate.model, step.recovery.dropout)
    with fake_quantised(student, step, items=_items_in_int8(candidate, work)):
        student, curve = learn(
            student, work.teacher, work.splits, step.recovery, work.progress, name="qat"
        )
    return candidate.written(quantised=step).of(student, curve)


def _served_as_exact(candidate: Candidate, work: Work) -> bool:
    """Whether the graph that serves the candidate, not quantised, is its exact one."""
    return not candidate.form.int8_items and not _in_two_stages(candidate, work)


def _items_in_int8(candidate: Candidate, work: Work) -> bool:
    """Whether the step rounds the item table: not one that has a form of its own."""
    return _served_as_exact(candidate, work) and candidate.model.item_codes is None


def _in_two_stages(candidate: Candidate, work: Work) -> bool:
    return wants_two_stages(work.export, len(candidate.model.log_popularity) - 1)


def validation_ndcg(candidate: Candidate, work: Work) -> tuple[float, float]:
    """NDCG@10 on validation of a candidate's exact graph and of the one that serves."""
    with TemporaryDirectory(dir=work.folder, prefix="qat-") as folder:
        graphs = write_graphs(candidate, work, Path(folder))
        valid, config, export = work.splits["valid"], candidate.model.config, work.export
        exact, served = (
            answered_gains(open_ranker(path, export.k), valid, config, export.max_seen).mean()
            for path in (graphs.exact, graphs.served)
        )
    return float(exact), float(served)
