"""Step 4: Feast's offline tables, and training windows as of their cut-offs."""

from typing import NamedTuple

from kfp import dsl

from components.image import image


@dsl.component(
    base_image=image("components", "feature_repo", "ingestion", "recommender"),
    install_kfp_package=False,
)
def build_features(
    features: dict,
    snapshot: dsl.Input[dsl.Dataset],
    item_vectors: dsl.Input[dsl.Dataset],
    data_fingerprint: str,
    vectors_fingerprint: str,
    windows: dsl.Output[dsl.Dataset],
) -> NamedTuple("Built", [("windows_fingerprint", str)]):  # type: ignore[valid-type]
    """Write the feature tables and each user's history as of the training cut-offs.

    Args:
        features: the run's `features` section.
        snapshot: of `ingest`.
        item_vectors: of `encode_items`.
        data_fingerprint, vectors_fingerprint: of the inputs, for the pipeline's cache.
        windows: windows.parquet, vocabulary.json, features.json and offline/, the tables that
            `materialize` puts online.

    Returns:
        windows_fingerprint: sha256 of `windows`.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.step import step
    from feature_repo.config import FeatureConfig
    from feature_repo.offline.build import build_features as run
    from ingestion.engines.open import open_engine
    from recommender.files import content_fingerprint

    with step("build-features") as progress:
        config = FeatureConfig.model_validate(features)
        result = run(
            Path(snapshot.path),
            Path(item_vectors.path),
            config,
            Path(windows.path),
            progress,
            lambda work: open_engine(config.engine, work, "features.engine"),
        )
        content = content_fingerprint(Path(windows.path))
        counts = result["counts"]
        progress(1, 1, f"core of {counts['users']:,} users and {counts['items']:,} items")
    return namedtuple("Built", ["windows_fingerprint"])(content)
