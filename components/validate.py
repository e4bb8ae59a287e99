"""Step 2, a gate: Great Expectations on the snapshot, with Data Docs."""

from kfp import dsl

from components.image import image


@dsl.component(
    base_image=image("components", "ingestion", "recommender"), install_kfp_package=False
)
def validate(
    validation: dict, snapshot: dsl.Input[dsl.Dataset], validation_report: dsl.Output[dsl.Artifact]
) -> None:
    """Check the snapshot; a failed expectation stops the run.

    Args:
        validation: the run's `validation` section.
        snapshot: of `ingest`.
        validation_report: validation.json and data_docs/, written before a failure is raised.
    """
    from pathlib import Path

    from components.step import step
    from ingestion.settings import ValidationConfig
    from ingestion.validation import validate as run

    with step("validate") as progress:
        config = ValidationConfig.model_validate(validation)
        result = run(Path(snapshot.path), config, Path(validation_report.path))
        progress(1, 1, f"{len(result['expectations'])} expectations met or only warned of")
