"""Step 6, with a gate behind it: full-ranking metrics beside baselines on the same split."""

from typing import NamedTuple

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("components", "tracking", "recommender"), install_kfp_package=False)
def evaluate(
    evaluation: dict,
    tracking: dict,
    snapshot: dsl.Input[dsl.Dataset],
    windows: dsl.Input[dsl.Dataset],
    trained_model: dsl.Input[dsl.Model],
    windows_fingerprint: str,
    model_fingerprint: str,
    tracking_run: str,
    evaluation_report: dsl.Output[dsl.Artifact],
) -> NamedTuple("Evaluated", [("evaluation_fingerprint", str)]):  # type: ignore[valid-type]
    """Measure on the test split; the gate stops a model that does not beat the baselines, or that
    is worse than the champion, overall or in a slice.

    Args:
        evaluation: the run's `evaluation` section.
        tracking: the run's section; its registry knows the champion.
        snapshot: of `ingest`: categories and languages of the items, for slices.
        windows: of `build_features`.
        trained_model: of `train`.
        windows_fingerprint, model_fingerprint: of the inputs, for the pipeline's cache.
        tracking_run: of `train`; gets the metrics, whatever the gate says.
        evaluation_report: a JSON file with metrics, baselines, protocol, gate and its verdict.

    Returns:
        evaluation_fingerprint: sha256 of `evaluation_report`.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.step import note, state_home, step
    from components.verdict import KEY, verdict
    from recommender.errors import Check, GateFailed, require
    from recommender.evaluation.evaluate import evaluate as run
    from recommender.files import content_fingerprint, write_json
    from recommender.settings import EvaluationConfig
    from tracking.registry import champion
    from tracking.runs import log_evaluation
    from tracking.store import store_of

    with step("evaluate") as progress:
        store = store_of(tracking, state_home(), lambda text: note("evaluate", text))
        config = EvaluationConfig.model_validate(evaluation)
        known = champion(store) if store and config.against_champion else None
        result = run(
            Path(trained_model.path),
            Path(windows.path),
            config,
            champion_dir=known.model_dir() if known else None,
            items_dir=Path(snapshot.path),
            champion_version=known.version if known else "",
            champion_name=known.name if known else "",
        )
        failure = None
        try:
            require("evaluate", [Check(**check) for check in result["gate"]])
        except GateFailed as error:
            failure = error
        write_json(Path(evaluation_report.path), result | {KEY: verdict(result["gate"], failure)})
        if store and tracking_run:
            log_evaluation(store, tracking_run, Path(evaluation_report.path))
        progress(1, 1, f"test NDCG@10 {result['test']['model']['ndcg@10']:.4f}")
    content = content_fingerprint(Path(evaluation_report.path))
    return namedtuple("Evaluated", ["evaluation_fingerprint"])(content)
