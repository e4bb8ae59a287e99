"""item_vectors/: what the model is told of a snapshot's items besides their ids."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recommender import schema
from recommender.errors import KuberecError
from recommender.files import atomic_directory, write_json
from recommender.progress import Progress, silent
from recommender.settings import TextConfig
from recommender.text.cache import as_lists, cached_vectors
from recommender.text.cleaning import item_text
from recommender.text.encoder import POOLING, Encoder
from recommender.text.images import image_vectors
from recommender.text.tfidf import TfidfSvd, fit_tfidf

VECTORS, DESCRIPTION = "vectors.parquet", "encoder.json"


def encode_items(
    snapshot_dir: Path,
    config: TextConfig,
    cache_dir: Path,
    out_dir: Path,
    progress: Progress = silent,
    fitted_dir: Path | None = None,
) -> dict[str, Any]:
    """Write item_vectors/ for a snapshot's items.

    vectors.parquet has `item_id`, `vector` (each of `text.features`, L2-normalised, side by side;
    empty lists where there is none) and, with `text.image_column`, `image` (L2-normalised, null
    where an item has none). Of TF-IDF, what was fitted lies beside it.

    Args:
        fitted_dir: where TF-IDF lies as it was fitted to other items: these then get vectors of the
            same space. By default it is fitted to these.

    Returns:
        The content of encoder.json: encoder, dim, count, parts (a dict for each of `text.features`,
        with its dim), image (or None); and from_cache, the texts that were not encoded again,
        which is not in the file: the same items give the same artifact.

    Raises:
        KuberecError: no items, no encoder, no terms, or images that are not of one length.
    """
    items = pq.read_table(schema.table_path(snapshot_dir, "items"))
    if not len(items):
        raise KuberecError(f"no items to encode in '{snapshot_dir}'")
    columns = [items[name].to_pylist() for name in (schema.TITLE, schema.CATEGORIES, schema.TEXT)]
    texts = [
        item_text(title, categories or (), text)
        for title, categories, text in zip(*columns, strict=True)
    ]
    images = image_vectors(items, config.image_column) if config.image_column else None
    with atomic_directory(out_dir) as draft:
        parts: list[dict[str, Any]] = []
        vectors = [np.zeros((len(texts), 0), np.float32)]
        from_cache = 0
        for feature in config.features:
            if feature == "encoder":
                encoder = Encoder(config)
                matrix, from_cache = cached_vectors(texts, encoder, Path(cache_dir), progress)
                part = _encoder_part(encoder)
            else:
                progress(0, len(texts), "texts to TF-IDF")
                fitted = TfidfSvd.load(fitted_dir) if fitted_dir else fit_tfidf(texts, config)
                fitted.save(draft)
                matrix = fitted.transform(texts)
                part = _tfidf_part(fitted)
                progress(len(texts), len(texts), "texts to TF-IDF")
            parts.append({"name": feature, "dim": matrix.shape[1]} | part)
            vectors.append(matrix)
        vector = np.concatenate(vectors, axis=1)
        table = pa.table({schema.ITEM_ID: items[schema.ITEM_ID], "vector": as_lists(vector)})
        if images is not None:
            table = table.append_column("image", images.column)
        pq.write_table(table, draft / VECTORS)
        description = {
            "encoder": config.encoder if "encoder" in config.features else None,
            "dim": vector.shape[1],
            "count": len(texts),
            "parts": parts,
            "image": images.description if images else None,
        }
        write_json(draft / DESCRIPTION, description)
    return description | {"from_cache": from_cache}


def _encoder_part(encoder: Encoder) -> dict[str, Any]:
    return {
        "encoder": encoder.config.encoder,
        "fingerprint": encoder.fingerprint,
        "pooling": POOLING,
        "max_tokens": encoder.config.max_tokens,
        "precision": encoder.precision,
    }


def _tfidf_part(fitted: TfidfSvd) -> dict[str, Any]:
    return {
        "tokenizer": fitted.config.tfidf.tokenizer,
        "terms": fitted.config.tfidf.terms,
        "columns": len(fitted.columns),
        "explained_variance": fitted.explained,
    }
