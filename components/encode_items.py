"""Step 3: item texts, and images where there are some, to vectors."""

from typing import NamedTuple

from kfp import dsl

from components.image import image


@dsl.component(base_image=image("components", "recommender"), install_kfp_package=False)
def encode_items(
    text: dict,
    snapshot: dsl.Input[dsl.Dataset],
    data_fingerprint: str,
    item_vectors: dsl.Output[dsl.Dataset],
) -> NamedTuple("Encoded", [("vectors_fingerprint", str)]):  # type: ignore[valid-type]
    """Make every item's vectors; of the encoder, texts seen before come from the cache.

    Args:
        text: the run's `text` section.
        snapshot: of `ingest`.
        data_fingerprint: of `ingest`, for the pipeline's cache.
        item_vectors: vectors.parquet, encoder.json, and the fitted TF-IDF where there is one.

    Returns:
        vectors_fingerprint: sha256 of `item_vectors`.
    """
    from collections import namedtuple
    from pathlib import Path

    from components.step import state_home, step
    from recommender.files import content_fingerprint
    from recommender.settings import TextConfig
    from recommender.text import encode_items as run

    with step("encode-items") as progress:
        result = run(
            Path(snapshot.path),
            TextConfig.model_validate(text),
            state_home() / "cache" / "vectors",
            Path(item_vectors.path),
            progress,
        )
        content = content_fingerprint(Path(item_vectors.path))
        made = f"{result['count']:,} items"
        if result["encoder"]:
            made += f", {result['from_cache']:,} known before"
        if result["image"]:
            made += f", {result['image']['count']:,} with an image"
        progress(1, 1, made)
    return namedtuple("Encoded", ["vectors_fingerprint"])(content)
