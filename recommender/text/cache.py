"""Vectors of texts on disk, by text and encoder: only new and changed texts are encoded.

A folder an encoder (its weights, max_tokens and precision are in the folder's name), in it part
files that are written once and never changed. What a kill can cost is one part.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recommender.errors import KuberecError
from recommender.files import atomic_file
from recommender.progress import Progress, silent
from recommender.text.encoder import Encoder

CHUNK = 1024  # texts a part


def text_key(text: str) -> str:
    """The name of a text's vector in an encoder's folder."""
    return hashlib.sha256(text.encode()).hexdigest()


def encoder_folder(cache_dir: Path, encoder: Encoder) -> Path:
    """Where the vectors of this encoder lie."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", encoder.config.encoder).strip("._")
    return Path(cache_dir) / f"{name}-{encoder.fingerprint[:16]}"


def cached_vectors(
    texts: Sequence[str], encoder: Encoder, cache_dir: Path, progress: Progress = silent
) -> tuple[np.ndarray, int]:
    """(vectors as of `Encoder.encode`, how many of them came from the cache in `cache_dir`).

    Every CHUNK new texts become a part file: a killed run goes on where it stopped, two runs at
    once do no harm, and a changed catalogue costs only its new texts. The encoder is not loaded
    where nothing is new.

    Raises:
        KuberecError: a part cannot be read.
    """
    folder = encoder_folder(cache_dir, encoder)
    keys = [text_key(text) for text in texts]
    row = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    found: dict[str, np.ndarray] = {}
    for part in sorted(folder.glob("*.parquet")):
        found.update((key, vector) for key, vector in _read(part) if key in row)
    known = sum(key in found for key in keys)
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
    new = sorted(missing, key=lambda key: len(missing[key]))
    for start in range(0, len(new), CHUNK):
        chunk = new[start : start + CHUNK]

        def tell(done: int, _: int, message: str, start: int = start) -> None:
            progress(start + done, len(new), message)

        vectors = encoder.encode([missing[key] for key in chunk], tell)
        _write(folder, chunk, vectors)
        found.update(zip(chunk, vectors, strict=True))
    return np.stack([found[key] for key in keys]), known


def as_lists(vectors: np.ndarray) -> pa.Array:
    """float32 [N, D] as an Arrow column; of no dimensions, as empty lists."""
    if vectors.shape[1] == 0:
        return pa.array([[]] * len(vectors), pa.list_(pa.float32()))
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def _read(part: Path) -> Iterator[tuple[str, np.ndarray]]:
    try:
        table = pq.read_table(part)
        width = table.schema.field("vector").type.list_size
        vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, width)
        return zip(table["key"].to_pylist(), vectors, strict=True)
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise KuberecError(
            f"cannot read '{part}' of the cache of text vectors ({error}): delete the file, its "
            "texts will be encoded again"
        ) from error


def _write(folder: Path, keys: Sequence[str], vectors: np.ndarray) -> None:
    # Named by what it holds: the same texts, encoded by two runs at once, are one file.
    name = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / f"{name}.parquet") as draft:
        pq.write_table(pa.table({"key": list(keys), "vector": as_lists(vectors)}), draft)
