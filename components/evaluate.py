"""Step 6, a gate: full-ranking metrics beside baselines on the same split."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("components", "recommender"), install_kfp_package=False)
def evaluate(
    evaluation: dict,
    windows: dsl.Input[dsl.Dataset],
    trained_model: dsl.Input[dsl.Model],
    data_fingerprint: str,
    evaluation_report: dsl.Output[dsl.Artifact],
) -> None:
    """Measure on the test split; a model that does not beat the baselines stops the run.

    Args:
        evaluation: the run's `evaluation` section.
        windows: of `build_features`.
        trained_model: of `train`.
        data_fingerprint: of `ingest`, for the pipeline's cache.
        evaluation_report: a JSON file with metrics, baselines, protocol and gate; written before a
            failure is raised.
    """
    from pathlib import Path

    from components.step import step
    from recommender.errors import Check, require
    from recommender.evaluation import evaluate as run
    from recommender.files import write_json
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
