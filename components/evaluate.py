"""Step 6, with a gate behind it: full-ranking metrics beside baselines on the same split."""

from typing import NamedTuple

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("components", "recommender"), install_kfp_package=False)
def evaluate(
    evaluation: dict,
    windows: dsl.Input[dsl.Dataset],
    trained_model: dsl.Input[dsl.Model],
    windows_fingerprint: str,
    model_fingerprint: str,
    evaluation_report: dsl.Output[dsl.Artifact],
) -> NamedTuple("Evaluated", [("evaluation_fingerprint", str)]):  # type: ignore[valid-type]
    """Measure on the test split; its gate stops a model that does not beat the baselines.

    Args:
        evaluation: the run's `evaluation` section.
        windows: of `build_features`.
        trained_model: of `train`.
        windows_fingerprint, model_fingerprint: of the inputs, for the pipeline's cache.
        evaluation_report: a JSON file with metrics, baselines, protocol, gate and its verdict.

    Returns:
        evaluation_fingerprint: sha256 of `evaluation_report`.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.step import step
    from components.verdict import KEY, verdict
    from recommender.errors import Check, GateFailed, require
    from recommender.evaluation.evaluate import evaluate as run
    from recommender.files import content_fingerprint, write_json
    from recommender.settings import EvaluationConfig

    with step("evaluate") as progress:
        result = run(
            Path(trained_model.path),
            Path(windows.path),
            EvaluationConfig.model_validate(evaluation),
        )
        failure = None
        try:
            require("evaluate", [Check(**check) for check in result["gate"]])
        except GateFailed as error:
            failure = error
        write_json(Path(evaluation_report.path), result | {KEY: verdict(result["gate"], failure)})
        progress(1, 1, f"test NDCG@10 {result['test']['model']['ndcg@10']:.4f}")
    content = content_fingerprint(Path(evaluation_report.path))
    return namedtuple("Evaluated", ["evaluation_fingerprint"])(content)
