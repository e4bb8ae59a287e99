"""Step 10, with a gate behind it: the new version as a canary beside the old one, then alone."""

from kfp import dsl

from components.image import image


@dsl.component(
    base_image=image(
        "components", "reporting", "tracking", "serving", "feature_repo", "recommender"
    ),
    install_kfp_package=False,
)
def rollout(
    serving: dict,
    tracking: dict,
    model_version: dsl.Input[dsl.Model],
    version: str,
    target: str,
    rollout_report: dsl.Output[dsl.Artifact],
    timeline: dsl.Output[dsl.HTML],
    timeline_text: dsl.Output[dsl.Markdown],
) -> None:
    """Serve the version, by the steps of `serving.rollout`; what serves now goes on until then.

    Where the canary is not promoted, what served before serves alone again (or, of a held rollout,
    beside it), and the gate behind this step fails the run. Whatever else goes wrong fails the step
    itself, likewise after putting back. A rollout that was killed goes on when this runs again.

    Args:
        serving: the run's `serving` section.
        tracking: the run's section. In its registry the version is the candidate from here on, and
            the champion once it serves alone; the one before, if that does in the end.
        model_version: of `export_version`.
        version: of `export_version`.
        target: "embedded" for the endpoint of the state home, "kserve" for an InferenceService.
        rollout_report: addresses, checks, the previous version, the rollout's `timeline` and the
            gate's verdict, as a JSON file; of a step that failed, why ("failed").
        timeline: the rollout as a page with plots.
        timeline_text: the same as Markdown.
    """
    from pathlib import Path

    from components.champion import mark_serving, serves_after
    from components.step import note, state_home, step
    from components.verdict import KEY, verdict
    from recommender.errors import GateFailed, KuberecError
    from recommender.files import write_json
    from reporting.rollout_files import write_timeline, write_without
    from reporting.rollout_text import without_canary
    from serving.rollout.outcome import RolloutStopped
    from serving.rollout.outcome import rows as rows_of
    from serving.rollout.record import Rollout
    from serving.settings import ServingConfig
    from tracking.registry import CANDIDATE
    from tracking.settings import TrackingConfig
    from tracking.store import store_of
    from tracking.versions import mark

    # A Ctrl-C reaches this step as well: it gives the canary up, which takes some seconds.
    with step("rollout", grace_s=30) as progress:
        config = ServingConfig.model_validate(serving)
        folder = Path(model_version.path)
        files = Path(timeline.path), Path(timeline_text.path)
        section = TrackingConfig.model_validate(tracking)

        def say(message: str) -> None:
            progress(0, 0, " ".join(message.split()))

        def tell(message: str) -> None:
            """Stays on the screen."""
            say(message)
            note("rollout", message)

        def champion(serves: str) -> None:
            mark_serving(serves, state_home(), say, tell, section=section, folder=folder)

        def leave(**content: object) -> None:
            write_json(Path(rollout_report.path), {"version": version, "target": target} | content)

        try:
            store = store_of(tracking, state_home(), tell)
            if store:
                mark(store, folder, CANDIDATE, tell)
            # Imported one by one: neither environment needs to have what the other place needs.
            if target == "kserve":
                from feature_repo.store import registry_file
                from serving.rollout.kserve.rollout import rollout as to_cluster

                result = to_cluster(folder, registry_file(state_home()), config, say, tell=tell)
            elif target == "embedded":
                from serving.rollout.embedded.rollout import rollout as to_endpoint

                result = to_endpoint(folder, state_home(), config, say, tell)
            else:
                raise KuberecError(f"target '{target}': allowed: embedded, kserve")
        except RolloutStopped as stopped:
            found = stopped.rollout
            rows = rows_of(found)
            write_timeline(found, *files)
            failure = KuberecError(f"{stopped}\ntimeline: {timeline.uri}")
            kept = found.model_dump(mode="json")
            leave(rows=rows, timeline=kept, **{KEY: verdict(rows, failure)})
            if serves := serves_after(found):
                champion(serves)
            progress(1, 1, f"{version} does not serve alone: {found.status.replace('_', ' ')}")
        except GateFailed as error:
            rows = [check.as_dict() for check in error.checks]
            write_without(version, str(error), rows, *files)
            leave(rows=rows, timeline=None, **{KEY: verdict(rows, error)})
            progress(1, 1, f"{version} is not as it was exported; not served")
        except KuberecError as error:
            write_without(version, str(error), [], *files)
            leave(rows=[], timeline=None, failed=str(error))
            raise
        else:
            if result["timeline"] is None:
                write_without(version, without_canary(result), result["rows"], *files)
            else:
                write_timeline(Rollout.model_validate(result["timeline"]), *files)
            leave(**result, **{KEY: verdict(result["rows"], None)})
            champion(version)
            verb = "serves already" if result["reused"] else "serves"
            progress(1, 1, f"{result['version']} {verb} at {result['url']}")
