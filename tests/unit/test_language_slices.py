"""From a table of items in three languages to the slices of an evaluation, with the detector that
ingestion has."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from recommender_data import TINY

from ingestion.ingest import ingest
from ingestion.sources import SourceConfig
from recommender import schema
from recommender.evaluation.evaluate import evaluate
from recommender.files import write_json
from recommender.model import SequentialRecommender, save_model
from recommender.settings import EvaluationConfig

SENTENCES = {
    "en": [
        "A young farmer leaves home to look for his missing brother",
        "Two detectives follow a murderer through the rain of the city",
        "The last ship of the season brings a stranger to the island",
        "An old teacher remembers the summer in which the war began",
        "Friends from school meet again at a wedding in the mountains",
        "She inherits a house by the sea and finds her mother's letters",
        "How to bake bread at home, with forty recipes for beginners",
    ],
    "de": [
        "Ein junger Bauer verlässt den Hof und sucht seinen Bruder",
        "Zwei Kommissare jagen einen Mörder durch die verregnete Stadt",
        "Das letzte Schiff des Jahres bringt eine Fremde auf die Insel",
        "Ein alter Lehrer erinnert sich an den Sommer vor dem Krieg",
        "Freunde aus der Schulzeit treffen sich auf einer Hochzeit wieder",
        "Sie erbt ein Haus am Meer und findet die Briefe ihrer Mutter",
        "Brot backen zu Hause, mit vierzig Rezepten für den Anfang",
    ],
    "fr": [
        "Un jeune paysan quitte la ferme pour chercher son frère disparu",
        "Deux inspecteurs poursuivent un assassin sous la pluie de la ville",
        "Le dernier bateau de la saison amène une étrangère sur l'île",
        "Un vieux professeur se souvient de l'été où la guerre a commencé",
        "Des amis d'école se retrouvent à un mariage dans les montagnes",
        "Elle hérite d'une maison au bord de la mer et y trouve des lettres",
        "Faire son pain à la maison, quarante recettes pour débuter",
    ],
}
SHORT = "Alien"  # too short to tell a language by
USERS, EVENTS = 60, 6


def write_tables(folder: Path) -> dict[str, str]:
    """items.csv and events.csv; the true language of each item."""
    truth = {}
    with (folder / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "title", "kinds"])
        for language, sentences in SENTENCES.items():
            for number, sentence in enumerate(sentences):
                truth[f"{language}{number}"] = language
                rows.writerow([f"{language}{number}", sentence, "book"])
        rows.writerow(["short", SHORT, "book"])
        truth["short"] = "und"
    rng = np.random.default_rng(0)
    with (folder / "events.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "item", "time"])
        for user in range(USERS):
            for time, item in enumerate(rng.permutation(sorted(truth))[:EVENTS]):
                rows.writerow([f"u{user:02d}", item, 1_700_000_000 + 60 * time])
    return truth


def source(folder: Path, language: bool) -> SourceConfig:
    def table(**columns: str) -> dict[str, Any]:
        return {"format": "csv", "columns": columns}

    events = table(user_id="user", item_id="item", timestamp="time")
    items = table(item_id="id", title="title", categories="kinds")
    return SourceConfig.model_validate(
        {
            "name": "languages",
            "events": events | {"path": str(folder / "events.csv")},
            "items": items | {"path": str(folder / "items.csv")},
            "cleaning": {"language": language},
        }
    )


def write_windows(snapshot: Path, folder: Path) -> dict[str, str]:
    """The latest event for test, the one before it for validation; each user's test item."""
    events = pq.read_table(schema.table_path(snapshot, "events")).sort_by("timestamp").to_pylist()
    lines: dict[str, list[str]] = {}
    for event in events:
        lines.setdefault(event["user_id"], []).append(event["item_id"])
    rows = []
    for user, items in lines.items():
        rows.append((user, "train", items[:-2], None))
        rows.append((user, "valid", items[:-2], items[-2]))
        rows.append((user, "test", items[:-1], items[-1]))
    names = ("user_id", "split", "history", "target")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / "windows.parquet")
    write_json(folder / "vocabulary.json", sorted({item for own in lines.values() for item in own}))
    return {user: items[-1] for user, items in lines.items()}


def untrained(folder: Path, vocabulary: list[str]) -> Path:
    torch.manual_seed(0)
    model = SequentialRecommender(
        TINY, torch.zeros(len(vocabulary) + 1, 0), torch.zeros(len(vocabulary) + 1)
    )
    folder.mkdir()
    save_model(model, vocabulary, folder)
    return folder


@pytest.mark.parametrize("language", [True, False])
def test_what_ingestion_tells_of_languages_is_what_users_are_sliced_by(
    tmp_path: Path, language: bool
) -> None:
    truth = write_tables(tmp_path)
    snapshot = tmp_path / "snapshot"
    ingest(source(tmp_path, language), snapshot)
    items = pq.read_table(schema.table_path(snapshot, "items")).to_pylist()
    assert {row["item_id"] for row in items} == set(truth)
    if language:
        assert {row["item_id"]: row["language"] for row in items} == truth
    targets = write_windows(snapshot, tmp_path / "windows")
    model = untrained(tmp_path / "model", sorted(truth))

    config = EvaluationConfig(min_slice_users=5, bootstrap=1000)
    report = evaluate(model, tmp_path / "windows", config, items_dir=snapshot)
    found = {row["slice"]: row for row in report["slices"] if row["by"] == "language"}
    if not language:
        assert found == {}
        return
    expected = Counter(truth[item] for item in targets.values())
    assert {name: row["users"] for name, row in found.items()} == {
        name: expected[name] for name in SENTENCES
    }
    # Slices tell quality apart: their users' hits add up to those of all who are in one.
    hits = sum(row["hr@10"] * row["users"] for row in found.values())
    whole = report["test"]["model"]["hr@10"] * len(targets)
    assert 0 < hits <= whole + 1e-9
    assert len({row["ndcg@10"] for row in found.values()}) > 1
