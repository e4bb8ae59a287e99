"""What a model version carries so that items can join it later: how a text becomes an item's row.

Files at the version's root, where Triton looks for nothing: new_items.json and .safetensors
(recommender.new_items), and the fitted TF-IDF where texts are read so. Folders would be taken for
models by a Triton that loads all there are.
"""

import shutil
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError
from recommender.files import read_json
from recommender.new_items import ARRAYS, MAP, ItemMap
from recommender.text.tfidf import ARRAYS as TFIDF_ARRAYS
from recommender.text.tfidf import SETTINGS as TFIDF_SETTINGS
from recommender.text.vectors import DESCRIPTION
from serving.version import ModelVersion

FILES = (MAP, ARRAYS, TFIDF_SETTINGS, TFIDF_ARRAYS)


def export_item_map(
    student: Path, ranker: Path, windows: Path, vectors: Path, folder: Path
) -> list[Path]:
    """Write the files into `folder`; none for a model that knows items by id alone.

    Args:
        ranker: the graph that serves; of one that no rows can be put behind no boost is sought.
    """
    from recommender.model import load_model
    from recommender.new_items import calibrate, fit_item_map
    from recommender.ranker_rows import takes_rows
    from recommender.sequences import Vocabulary, load_windows

    model = load_model(student)
    found = fit_item_map(model, read_json(vectors / DESCRIPTION)["parts"])
    if found is None:
        return []
    if takes_rows(ranker):
        splits = load_windows(windows, Vocabulary.load(student / "vocabulary.json"))
        found.about["calibrated"] = calibrate(model, splits["valid"])
    found.save(folder)
    for name in (TFIDF_SETTINGS, TFIDF_ARRAYS):
        if (vectors / name).is_file():
            shutil.copyfile(vectors / name, folder / name)
    return item_map_files(folder)


def item_map_files(folder: Path) -> list[Path]:
    """Those that a version has."""
    return [path for path in (Path(folder) / name for name in FILES) if path.is_file()]


def load_item_map(version: ModelVersion, config: dict[str, Any]) -> ItemMap:
    """The version's.

    Args:
        config: the sections of its kuberec.json.

    Raises:
        KuberecError: it has none.
    """
    if (version.directory / MAP).is_file():
        return ItemMap.load(version.directory)
    if config.get("text", {}).get("features") == []:
        raise KuberecError(
            f"model version {version.version} knows items by id alone (text.features is none), so "
            "that a new item says nothing to it: train with text.features: encoder"
        )
    raise KuberecError(
        f"model version {version.version} has no {MAP}: it was exported before new items could "
        "join a version. Run the pipeline again (`kuberec run CONFIG`; training comes from the "
        "cache where its code has not changed)"
    )
