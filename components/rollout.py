"""Step 10, a gate: the new version beside the old one, checked, then switched to."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("components", "serving", "recommender"), install_kfp_package=False)
def rollout(
    serving: dict,
    model_version: dsl.Input[dsl.Model],
    version: str,
    target: str,
    rollout_report: dsl.Output[dsl.Artifact],
) -> None:
    """Serve the version; what serves now goes on untouched until the new one has proved itself.

    Args:
        serving: the run's `serving` section.
        model_version: of `export_version`.
        version: of `export_version`.
        target: "embedded" for the endpoint of the state home, "kserve" for an InferenceService.
        rollout_report: addresses, checks and the previous version, as a JSON file.
    """
    from pathlib import Path

    from components.step import state_home, step
    from recommender.errors import KuberecError
    from recommender.files import write_json
    from serving.rollout.local import rollout as run
    from serving.settings import ServingConfig

    with step("rollout") as progress:
        if target != "embedded":
            raise KuberecError(f"target '{target}': only 'embedded' can be served so far")
        config = ServingConfig.model_validate(serving)
        result = run(
            Path(model_version.path),
            state_home(),
            config,
            lambda message: progress(0, 0, message),
        )
        write_json(Path(rollout_report.path), result)
        verb = "serves already" if result["reused"] else "serves"
        progress(1, 1, f"{result['version']} {verb} at {result['url']}")
