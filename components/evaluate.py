"""Step 6, a gate: full-ranking metrics beside baselines on the same split."""

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
    """Measure on the test split; a model that does not beat the baselines stops the run.

    Args:
        evaluation: the run's `evaluation` section.
        windows: of `build_features`.
        trained_model: of `train`.
        windows_fingerprint, model_fingerprint: of the inputs, for the pipeline's cache.
        evaluation_report: a JSON file with metrics, baselines, protocol and gate; written before a
            failure is raised.

    Returns:
        evaluation_fingerprint: sha256 of `evaluation_report`.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.step import step
    from recommender.errors import Check, require
    from recommender.evaluation import evaluate as run
    from recommender.files import content_fingerprint, write_json
    from recommender.settings import EvaluationConfig

    with step("evaluate") as progress:
        result = run(
            Path(trained_model.path),
            Path(windows.path),
            EvaluationConfig.model_validate(evaluation),
        )
        write_json(Path(evaluation_report.path), result)
        progress(1, 1, f"test NDCG@10 {result['test']['model']['ndcg@10']:.4f}")
        require("evaluate", [Check(**check) for check in result["gate"]])
    content = content_fingerprint(Path(evaluation_report.path))
    return namedtuple("Evaluated", ["evaluation_fingerprint"])(content)
