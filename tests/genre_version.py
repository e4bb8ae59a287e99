"""A model version that goes by texts: items of five genres, what comes next is of the last one's.

Nothing is trained: an item's row is its text's vector, so that the Transformer, whose other weights
are small, answers with items of like texts. All else is as in a run: INT8, TF-IDF, golden requests.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from recommender_data import ITEMS, vocabulary, write_windows

from recommender.compression.half import half_ranker
from recommender.compression.quantize import quantize_ranker
from recommender.export import export_ranker
from recommender.files import write_json
from recommender.item_inputs import load_item_vectors
from recommender.model import SequentialRecommender, save_model
from recommender.ranker_inputs import ranker_inputs
from recommender.sequences import Vocabulary, item_counts, load_windows, log_popularity
from recommender.settings import ModelConfig, QuantiseStep, TextConfig
from recommender.text import encode_items
from serving.export import golden_requests, graph_for_gpus
from serving.handover import seal, write_graphs
from serving.item_map import export_item_map
from serving.parity import golden_answers
from serving.triton.repository import Shapes

GENRES = {
    "space": "rocket star planet alien orbit galaxy",
    "love": "heart kiss wedding letter rose summer",
    "crime": "detective murder police clue night gun",
    "sea": "ship island pirate storm whale harbour",
    "west": "horse sheriff desert saloon ranch gold",
}
TEXT: dict[str, Any] = {
    "features": ["tfidf-svd"],
    "tfidf": {"min_df": 1, "dim": 24},
}
MAX_LENGTH = 10
EXPORT = {"k": 10, "max_seen": 24, "golden_requests": 8}


def title(genre: str, seed: int) -> str:
    """Four of a genre's words."""
    words = GENRES[genre].split()
    chosen = np.random.default_rng(seed).permutation(len(words))[:4]
    return f"{genre} " + " ".join(words[place] for place in sorted(chosen))


def genre_of(index: int) -> str:
    return list(GENRES)[index % len(GENRES)]


def write_items(path: Path, rows: dict[str, str]) -> Path:
    """A csv of id and name."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "name"])
        writer.writerows(rows.items())
    return path


def known_items() -> dict[str, str]:
    return {item: title(genre_of(index), index) for index, item in enumerate(vocabulary())}


def write_genre_version(
    folder: Path, text: dict[str, Any] | None = None, half: bool = False
) -> Path:
    """The version folder/version, and folder/items.csv that its items come from.

    `half`: its ranker is in float16, not INT8.
    """
    config = TextConfig.model_validate(text or TEXT)
    folder.mkdir(parents=True, exist_ok=True)
    items = write_items(folder / "items.csv", known_items())
    snapshot, vectors = folder / "snapshot", folder / "vectors"
    snapshot.mkdir()
    titles = list(known_items().values())
    columns = {"item_id": vocabulary(), "title": titles, "text": titles}
    empty = pa.array([[]] * ITEMS, pa.list_(pa.string()))
    pq.write_table(pa.table(columns | {"categories": empty}), snapshot / "items.parquet")
    encode_items(snapshot, config, folder / "cache", vectors)
    windows = write_windows(folder / "windows")
    _compress(folder / "compressed", vectors, windows, half)
    events = {
        "path": "events.csv",
        "format": "csv",
        "columns": {"user_id": "u", "item_id": "i", "timestamp": "t"},
    }
    source = {
        "name": "genres",
        "events": events,
        "items": {
            "path": str(items),
            "format": "csv",
            "columns": {"item_id": "id", "title": "name"},
        },
    }
    facts = {"config": {"source": source, "text": config.model_dump(), "export": EXPORT}}
    _seal(folder, windows, vectors, facts)
    return folder / "version"


def _seal(folder: Path, windows: Path, vectors: Path, facts: dict[str, Any]) -> None:
    """As serving.export, but for the parity with torch and Triton, which takes seconds."""
    compressed, draft = folder / "compressed", folder / "draft"
    draft.mkdir()
    write_graphs(
        draft / "repository",
        draft,
        vocabulary(),
        Shapes(MAX_LENGTH, EXPORT["max_seen"], EXPORT["k"]),
        compressed / "ranker.onnx",
        graph_for_gpus(compressed),
        None,
    )
    ranker = compressed / "ranker.onnx"
    export_item_map(compressed / "student", ranker, windows, vectors, draft / "repository")
    requests = golden_requests(windows, EXPORT["golden_requests"])
    golden = golden_answers(draft / "repository", requests)
    lineage = {"items": {"trained": ITEMS, "added": [], "parent": None}}
    (folder / "version").mkdir()
    seal(draft / "repository", folder / "version", "genres", golden, facts | lineage)


def _compress(folder: Path, vectors: Path, windows: Path, half: bool) -> None:
    known = Vocabulary(vocabulary())
    text = load_item_vectors(vectors, known).text
    splits = load_windows(windows)
    popularity = log_popularity(item_counts(splits["train"].histories, ITEMS))
    shape = ModelConfig(dim=text.shape[1], layers=1, heads=1, max_length=MAX_LENGTH, dropout=0.0)
    torch.manual_seed(0)
    model = SequentialRecommender(shape, text, torch.from_numpy(popularity)).eval()
    assert model.text_projection is not None
    torch.nn.init.eye_(model.text_projection.weight)
    (folder / "student").mkdir(parents=True)
    save_model(model, vocabulary(), folder / "student")
    write_json(folder / "ledger.json", {"rows": []})
    export_ranker(model, folder / "ranker_fp32.onnx", EXPORT["k"], EXPORT["max_seen"])
    if half:
        half_ranker(folder / "ranker_fp32.onnx", folder / "ranker.onnx")
        return
    quantize_ranker(
        folder / "ranker_fp32.onnx",
        folder / "ranker.onnx",
        QuantiseStep(),
        *ranker_inputs(splits["train"].histories, shape.max_length, EXPORT["max_seen"]),
    )
