"""Step 5: the full model; on several nodes where the compiled pipeline says so."""

from typing import NamedTuple

from kfp import dsl

from components.image import image


# Of `serving` only the Kubernetes API is used, and on several nodes only.
@dsl.component(base_image=image("components", "recommender"), install_kfp_package=False)
def train(
    model: dict,
    training: dict,
    windows: dsl.Input[dsl.Dataset],
    item_vectors: dsl.Input[dsl.Dataset],
    windows_fingerprint: str,
    vectors_fingerprint: str,
    trained_model: dsl.Output[dsl.Model],
) -> NamedTuple("Trained", [("model_fingerprint", str)]):  # type: ignore[valid-type]
    """Train with early stopping on validation NDCG@10; a killed training resumes where it stood.

    Args:
        model: the run's `model` section.
        training: the run's `training` section.
        windows: of `build_features`.
        item_vectors: of `encode_items`.
        windows_fingerprint, vectors_fingerprint: of the inputs, for the pipeline's cache.
        trained_model: model.safetensors, model.json, vocabulary.json, training.json.

    Returns:
        model_fingerprint: sha256 of `trained_model`.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.image import source_hash
    from components.step import state_home, step
    from components.trainjob.settings import plan
    from recommender.files import content_fingerprint, fingerprint
    from recommender.settings import ModelConfig, TrainingConfig

    # A checkpoint fits only the very same training: data, settings and code.
    inputs = [windows_fingerprint, vectors_fingerprint]
    key = fingerprint([model, training, *inputs, source_hash("recommender")])
    with step("train") as progress:
        nodes = plan()
        if nodes:
            from components.trainjob.run import train_on_nodes
            from serving.kubernetes.api import connect

            train_on_nodes(
                connect(),
                nodes,
                key,
                {"windows": Path(windows.path), "vectors": Path(item_vectors.path)},
                {"model": model, "training": training},
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
            )
        content = content_fingerprint(Path(trained_model.path))
    return namedtuple("Trained", ["model_fingerprint"])(content)
