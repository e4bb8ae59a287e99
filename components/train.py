"""Step 5: the full model."""

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("components", "recommender"), install_kfp_package=False)
def train(
    model: dict,
    training: dict,
    windows: dsl.Input[dsl.Dataset],
    item_vectors: dsl.Input[dsl.Dataset],
    data_fingerprint: str,
    trained_model: dsl.Output[dsl.Model],
) -> None:
    """Train with early stopping on validation NDCG@10; a killed training resumes where it stood.

    Args:
        model: the run's `model` section.
        training: the run's `training` section.
        windows: of `build_features`.
        item_vectors: of `encode_items`.
        data_fingerprint: of `ingest`, for the pipeline's cache.
        trained_model: model.safetensors, model.json, vocabulary.json, training.json.
    """
    from pathlib import Path

    from components.image import source_hash
    from components.step import state_home, step
    from recommender.files import fingerprint
    from recommender.settings import ModelConfig, TrainingConfig
    from recommender.training import fit

    # A checkpoint fits only the very same training: data, settings and code.
    key = fingerprint([model, training, data_fingerprint, source_hash("recommender"), windows.uri])
    with step("train") as progress:
        fit(
            Path(windows.path),
            Path(item_vectors.path),
            ModelConfig.model_validate(model),
            TrainingConfig.model_validate(training),
            Path(trained_model.path),
            state_home() / "cache" / "checkpoints" / key[:16],
            progress,
        )
