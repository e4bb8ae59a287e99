"""Step 2, with a gate behind it: Great Expectations on the snapshot, where its engine is."""

from kfp import dsl

from components.image import image


@dsl.component(
    base_image=image("components", "reporting", "ingestion", "feature_repo", "recommender"),
    install_kfp_package=False,
)
def validate(
    validation: dict,
    features: dict,
    snapshot: dsl.Input[dsl.Dataset],
    validation_report: dsl.Output[dsl.Artifact],
) -> None:
    """Check the snapshot; a critical failure stops the run, at the gate behind this step.

    What the last accepted snapshot of this source looked like, and the runs that Data Docs show,
    are kept in the state folder.

    Args:
        validation: the run's `validation` section.
        features: the run's `features` section, for `validation.skew`.
        snapshot: of `ingest`.
        validation_report: validation.json, profile.json, data_docs/ and the gate's verdict.json;
            skew.json, where logged requests are looked at.
    """
    from pathlib import Path

    from components.step import note, state_home, step
    from components.verdict import FILE, verdict
    from feature_repo.config import FeatureConfig
    from ingestion.errors import ValidationFailed
    from ingestion.validation.results import as_check, describe, warns
    from ingestion.validation.run import state_folder
    from ingestion.validation.run import validate as run
    from ingestion.validation.settings import ValidationConfig
    from recommender.errors import KuberecError
    from recommender.files import read_json, write_json

    with step("validate") as progress:
        config, target = ValidationConfig.model_validate(validation), Path(validation_report.path)
        source = read_json(Path(snapshot.path) / "snapshot.json")["source"]["name"]
        failure: KuberecError | None = None
        try:
            run(Path(snapshot.path), config, target, state_folder(state_home(), source))
        except ValidationFailed as error:
            failure = error
        report = read_json(target / "validation.json")
        checks = [as_check(row) for row in report["expectations"]]
        passed = sum(check.passed for check in checks)
        said = f"{passed} of {len(checks)} expectations met or only warned of"
        if config.skew.log is not None and failure is None:
            from components.skew import check_skew

            length = FeatureConfig.model_validate(features).history_length
            skew = check_skew(
                config.skew, Path(snapshot.path), length, state_home(), target, progress
            )
            failure = skew.failure
            checks += [skew.check] if skew.check is not None else []
            note("validate", skew.said)
        write_json(target / FILE, verdict([check.as_dict() for check in checks], failure))
        for row in filter(warns, report["expectations"]):
            note("validate", f"warning: {describe(row)}")
        progress(1, 1, f"{said}; {report['drift']['said']}")
