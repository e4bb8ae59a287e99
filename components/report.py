"""The last step: one page and one summary of the whole run, with answers of the live endpoint."""

from kfp import dsl

from components.image import image


@dsl.component(
    base_image=image("components", "reporting", "serving", "recommender"),
    install_kfp_package=False,
)
def report(
    card: dict,
    serving: dict,
    snapshot: dsl.Input[dsl.Dataset],
    validation_report: dsl.Input[dsl.Artifact],
    item_vectors: dsl.Input[dsl.Dataset],
    windows: dsl.Input[dsl.Dataset],
    trained_model: dsl.Input[dsl.Model],
    evaluation_report: dsl.Input[dsl.Artifact],
    model_version: dsl.Input[dsl.Model],
    rollout_report: dsl.Input[dsl.Artifact],
    target: str,
    page: dsl.Output[dsl.HTML],
    model_card: dsl.Output[dsl.Markdown],
    summary: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Gather what the steps wrote; see reporting/.

    Args:
        card: the run's section; what people say of the model.
        serving: the run's section; of it the card tells what becomes of old features.
        snapshot, validation_report, item_vectors, windows, trained_model, evaluation_report,
            model_version, rollout_report: outputs of the steps before.
        target: what `rollout` served on; "kserve" is asked through its gateway.
        page: report.html, self-contained.
        model_card: MODEL_CARD.md: YAML for tools at its head, Markdown for people.
        summary: the same numbers as a JSON file.
        metrics: the headline numbers for Kubeflow's run list.
    """
    from pathlib import Path

    from components.step import state_home, step
    from recommender.files import atomic_file, read_json, write_json
    from reporting.answers import answer
    from reporting.card.markdown import card_markdown
    from reporting.page import render
    from reporting.summary import summarize

    with step("report") as progress:
        progress(0, 0, "asking the endpoint for three users")
        served = read_json(Path(rollout_report.path))
        users = read_json(Path(windows.path) / "features.json")["sample_users"]
        address, door = served["grpc_url"], {}
        if target == "kserve":
            from serving.kubernetes.gateway import credentials

            tls = served["url"].startswith("https://")
            address = f"https://{address}" if tls else address
            door = {"host": served["host"], "headers": credentials()}
        samples = answer(state_home(), address, users=users, **door)
        result = summarize(
            snapshot=Path(snapshot.path),
            validation=Path(validation_report.path),
            item_vectors=Path(item_vectors.path),
            windows=Path(windows.path),
            model=Path(trained_model.path),
            evaluation=Path(evaluation_report.path),
            model_version=Path(model_version.path),
            rollout=Path(rollout_report.path),
            samples=samples,
            card=card,
            serving=serving,
        )
        write_json(Path(summary.path), result)
        with atomic_file(Path(page.path)) as draft:
            draft.write_text(render(result), encoding="utf-8")
        with atomic_file(Path(model_card.path)) as draft:
            draft.write_text(card_markdown(result["card"]), encoding="utf-8")
        for name, value in result["headline"].items():
            metrics.log_metric(name, value)
        progress(1, 1, "")
