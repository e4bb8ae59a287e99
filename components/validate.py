"""Step 2, with a gate behind it: Great Expectations on the snapshot, with Data Docs."""

from kfp import dsl

from components.image import image


@dsl.component(
    base_image=image("components", "ingestion", "recommender"), install_kfp_package=False
)
def validate(
    validation: dict, snapshot: dsl.Input[dsl.Dataset], validation_report: dsl.Output[dsl.Artifact]
) -> None:
    """Check the snapshot; a failed expectation stops the run, at the gate behind this step.

    Args:
        validation: the run's `validation` section.
        snapshot: of `ingest`.
        validation_report: validation.json, data_docs/ and the gate's verdict.json.
    """
    from pathlib import Path

    from components.step import step
    from components.verdict import FILE, verdict
    from ingestion.errors import ValidationFailed
    from ingestion.validation.run import as_check
    from ingestion.validation.run import validate as run
    from ingestion.validation.settings import ValidationConfig
    from recommender.files import read_json, write_json

    with step("validate") as progress:
        config, target = ValidationConfig.model_validate(validation), Path(validation_report.path)
        failure = None
        try:
            run(Path(snapshot.path), config, target)
        except ValidationFailed as error:
            failure = error
        expectations = read_json(target / "validation.json")["expectations"]
        checks = [as_check(row) for row in expectations]
        write_json(target / FILE, verdict([check.as_dict() for check in checks], failure))
        passed = sum(check.passed for check in checks)
        progress(1, 1, f"{passed} of {len(checks)} expectations met or only warned of")
