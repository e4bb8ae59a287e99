"""Step 5: the full model; on several nodes where the compiled pipeline says so."""

from typing import NamedTuple

from kfp import dsl

from components.image import image


# Of `serving` only the Kubernetes API is used, and on several nodes only; `tracking` writes down
# what is trained and changes nothing of it: neither is a reason to train again.
@dsl.component(base_image=image("components", "recommender"), install_kfp_package=False)
def train(
    model: dict,
    training: dict,
    tracking: dict,
    windows: dsl.Input[dsl.Dataset],
    item_vectors: dsl.Input[dsl.Dataset],
    windows_fingerprint: str,
    vectors_fingerprint: str,
    trained_model: dsl.Output[dsl.Model],
) -> NamedTuple("Trained", [("model_fingerprint", str), ("tracking_run", str)]):  # type: ignore[valid-type]
    """Train with early stopping on validation NDCG@10; a killed training resumes where it stood.

    Args:
        model: the run's `model` section.
        training: the run's `training` section.
        tracking: the run's section: where the training is written down.
        windows: of `build_features`.
        item_vectors: of `encode_items`.
        windows_fingerprint, vectors_fingerprint: of the inputs, for the pipeline's cache.
        trained_model: model.safetensors, model.json, vocabulary.json, training.json.

    Returns:
        model_fingerprint: sha256 of `trained_model`.
        tracking_run: MLflow's id of the run with its parameters and curves; "" where none is kept.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.image import source_hash
    from components.step import note, state_home, step
    from components.trainjob.settings import plan
    from recommender.files import content_fingerprint, fingerprint
    from recommender.settings import ModelConfig, TrainingConfig
    from tracking.runs import training_run
    from tracking.store import TrackingError, store_of

    # A checkpoint fits only the very same training: data, settings and code.
    inputs = [windows_fingerprint, vectors_fingerprint]
    key = fingerprint([model, training, *inputs, source_hash("recommender")])

    def say(text: str) -> None:
        note("train", text)

    sections = {"model": model, "training": training}
    datasets = {"windows": windows_fingerprint, "vectors": vectors_fingerprint}
    with (
        step("train") as progress,
        training_run(
            store_of(tracking, state_home(), say), key[:16], sections, datasets, say
        ) as tracked,
    ):
        nodes = plan()
        if nodes:
            from components.trainjob.run import train_on_nodes
            from serving.kubernetes.api import connect

            train_on_nodes(
                connect(),
                nodes,
                key,
                {"windows": Path(windows.path), "vectors": Path(item_vectors.path)},
                sections,
                Path(trained_model.path),
                state_home(),
                progress,
            )
        else:
            from recommender.training.fit import fit

            fit(
                Path(windows.path),
                Path(item_vectors.path),
                ModelConfig.model_validate(model),
                TrainingConfig.model_validate(training),
                Path(trained_model.path),
                state_home() / "cache" / "checkpoints" / key[:16],
                progress,
                log=tracked.log,
            )
        try:  # curves of several nodes come here too: their processes know no store
            tracked.finish(Path(trained_model.path))
        except TrackingError as error:  # a trained model is not lost for it
            say(f"written to MLflow when the version is exported: {error}")
        content = content_fingerprint(Path(trained_model.path))
    Trained = namedtuple("Trained", ["model_fingerprint", "tracking_run"])
    return Trained(content, tracked.id)
