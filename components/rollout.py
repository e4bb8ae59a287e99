"""Step 10, with a gate behind it: the new version beside the old one, checked, then switched to."""

from kfp import dsl

from components.image import image


@dsl.component(
    base_image=image("components", "serving", "feature_repo", "recommender"),
    install_kfp_package=False,
)
def rollout(
    serving: dict,
    model_version: dsl.Input[dsl.Model],
    version: str,
    target: str,
    rollout_report: dsl.Output[dsl.Artifact],
) -> None:
    """Serve the version; what serves now goes on untouched until the new one has proved itself.

    Where an answer is off its limit, what served before is put back, and the gate behind this step
    fails the run. Whatever else goes wrong fails the step itself, likewise after putting back.

    Args:
        serving: the run's `serving` section.
        model_version: of `export_version`.
        version: of `export_version`.
        target: "embedded" for the endpoint of the state home, "kserve" for an InferenceService.
        rollout_report: addresses, checks, the previous version and the gate's verdict, as a JSON
            file; of a step that failed, why ("failed").
    """
    from pathlib import Path

    from components.step import state_home, step
    from components.verdict import KEY, verdict
    from recommender.errors import GateFailed, KuberecError
    from recommender.files import write_json
    from serving.settings import ServingConfig

    with step("rollout") as progress:
        config = ServingConfig.model_validate(serving)
        folder = Path(model_version.path)

        def say(message: str) -> None:
            progress(0, 0, message)

        try:
            # Imported one by one: neither environment needs to have what the other place needs.
            if target == "kserve":
                from feature_repo.store import registry_file
                from serving.rollout.kserve import rollout as to_cluster

                result = to_cluster(folder, registry_file(state_home()), config, say)
            elif target == "embedded":
                from serving.rollout.local import rollout as to_endpoint

                result = to_endpoint(folder, state_home(), config, say)
            else:
                raise KuberecError(f"target '{target}': allowed: embedded, kserve")
        except GateFailed as error:
            rows = [check.as_dict() for check in error.checks]
            report = {"version": version, "target": target, "rows": rows, KEY: verdict(rows, error)}
            write_json(Path(rollout_report.path), report)
            progress(1, 1, f"{version} is not as it was exported; not served")
        except KuberecError as error:
            report = {"version": version, "target": target, "rows": [], "failed": str(error)}
            write_json(Path(rollout_report.path), report)
            raise
        else:
            report = {"target": target, **result, KEY: verdict(result["rows"], None)}
            write_json(Path(rollout_report.path), report)
            verb = "serves already" if result["reused"] else "serves"
            progress(1, 1, f"{result['version']} {verb} at {result['url']}")
