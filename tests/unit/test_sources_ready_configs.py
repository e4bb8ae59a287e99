"""The ready configs, on small made-up files of each publisher's layout, placed by hand."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ingestion.errors import IngestError
from ingestion.ingest import ingest
from ingestion.reading.download import fetch
from pipelines.config import load_config
from recommender.schema import table_path

CONFIGS = Path(__file__).resolve().parents[2] / "pipelines/configs"


def snapshot(name: str, files: dict[str, bytes], folder: Path) -> tuple[dict[str, Any], Any]:
    """A ready config's snapshot.json and a function that reads its tables."""
    config = load_config(CONFIGS / f"{name}.yaml").source
    for path, content in files.items():
        place = folder / "data" / config.slug / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    placed = fetch(config.model_copy(update={"max_reject_fraction": 0.5}), folder / "data")
    summary = ingest(placed, folder / "snapshot")
    return summary, lambda table: pq.read_table(table_path(folder / "snapshot", table)).to_pylist()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_ready_config_is_valid(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert config.source.license
    assert config.source.acknowledgement


@pytest.mark.parametrize("name", ["movielens-1m", "movielens-25m", "amazon-reviews-2023"])
def test_what_is_downloaded_is_what_is_read(name: str, tmp_path: Path) -> None:
    """Every table's file comes from the download; without a network its error names the page."""
    source = load_config(CONFIGS / f"{name}.yaml").source
    assert source.download is not None
    files = source.download.files
    fetched = {each for file in files for each in file.members or [file.filename]}
    assert {table.path for table in source.tables().values()} == fetched
    closed = [
        file.model_copy(update={"url": "http://127.0.0.1:9/" + file.filename}) for file in files
    ]
    download = source.download.model_copy(update={"files": closed})
    with pytest.raises(IngestError) as refused:
        fetch(source.model_copy(update={"download": download}), tmp_path)
    assert f"open {source.download.page}" in str(refused.value)
    assert f"into '{tmp_path / source.slug}'" in str(refused.value)


def test_movielens_1m(tmp_path: Path) -> None:
    files = {
        "ml-1m/ratings.dat": b"1::11::5::978300760\n1::12::3::978302109\n2::11::4::978301968\n",
        "ml-1m/movies.dat": "11::Étude, L' (1999)::Drama|Musical\n"
        '12::Story of a "Shoe", The: Part 2 (1998)::Children\'s\n'.encode("latin-1"),
        "ml-1m/users.dat": b"1::F::1::10::48067\n2::M::56::16::70072-1234\n",
    }
    summary, table = snapshot("movielens-1m", files, tmp_path)
    assert summary["read"] == {"items": 2, "users": 2, "events": 3}
    assert summary["kept"] == {"events": 3, "items": 2, "users": 2}
    assert [row["value"] for row in table("events")] == [5, 3, 4]
    assert table("events")[0]["timestamp"].isoformat() == "2000-12-31T22:12:40+00:00"
    first, second = table("items")
    assert (first["title"], first["categories"]) == ("L'Étude (1999)", ["Drama", "Musical"])
    assert second["title"] == 'Story of a "Shoe", The: Part 2 (1998)'
    assert "Zip-code" not in table("users")[0]
    assert table("users")[1]["Age"] == "56"


def test_movielens_25m(tmp_path: Path) -> None:
    files = {
        "ml-25m/ratings.csv": b"userId,movieId,rating,timestamp\n1,11,4.5,1147880044\n"
        b"2,12,0.5,1147868817\n2,13,3.0,1147868828\n",
        "ml-25m/movies.csv": 'movieId,title,genres\n11,"Lake, The (1995)",Comedy|Drama\n'
        '12,"Été ""à"" deux (2001)",(no genres listed)\n'.encode(),
    }
    summary, table = snapshot("movielens-25m", files, tmp_path)
    assert summary["kept"] == {"events": 2, "items": 2, "users": 2}
    assert summary["rejected"]["events"] == {"unknown item": 1}
    assert [row["title"] for row in table("items")] == ["The Lake (1995)", 'Été "à" deux (2001)']
    assert table("items")[0]["categories"] == ["Comedy", "Drama"]


def test_amazon_reviews_2023(tmp_path: Path) -> None:
    review = {
        "rating": 5.0,
        "title": "Good",
        "text": "My number is 555 0100",
        "images": [],
        "asin": "B1-RED",
        "parent_asin": "B1",
        "user_id": "AEX",
        "timestamp": 1588687728923,
        "helpful_vote": 0,
        "verified_purchase": True,
    }
    pictures = [{"small_image_url": "https://host/a.jpg", "attachment_type": "IMAGE"}]
    reviews = [
        review,
        review | {"parent_asin": "0123456789", "rating": 1.0, "images": pictures},
        review | {"parent_asin": "B9", "timestamp": 1588687728924},
        review,
    ]
    product = {
        "main_category": "Musical Instruments",
        "title": "Red &amp; blue strings",
        "average_rating": 4.8,
        "rating_number": 10,
        "features": ["Nylon.", "Six of them."],
        "description": ["For guitars."],
        "price": None,
        "images": [{"thumb": "https://host/t.jpg", "large": None, "variant": "MAIN"}],
        "videos": [],
        "store": "Shop",
        "categories": ["Musical Instruments", "Strings"],
        "details": {"Item Weight": "3 ounces"},
        "parent_asin": "B1",
        "bought_together": None,
    }
    book = {"parent_asin": "0123456789", "price": "12.99", "details": {"Publisher": "P", "n": 1}}
    products = [
        product,
        product | book | {"title": "Play", "features": [], "description": [], "categories": []},
        product | {"parent_asin": "B3", "title": ""},
    ]
    name = "Musical_Instruments.jsonl.gz"
    files = {
        file: gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
        for file, rows in ((name, reviews), (f"meta_{name}", products))
    }
    summary, table = snapshot("amazon-reviews-2023", files, tmp_path)
    assert summary["read"] == {"items": 3, "events": 4}
    assert summary["rejected"]["items"] == {"missing title": 1}
    assert summary["rejected"]["events"] == {"exact duplicate": 1, "unknown item": 1}
    first, second = table("events")
    assert first["timestamp"].isoformat() == "2020-05-05T14:08:48.923000+00:00"
    assert {first["item_id"], second["item_id"]} == {"B1", "0123456789"}
    assert not {"title", "text", "images"} & set(first)
    strings, play = table("items")
    assert strings["title"] == "Red & blue strings"
    assert strings["text"] == "Red & blue strings. Nylon., Six of them. For guitars."
    assert strings["categories"] == ["Musical Instruments", "Strings"]
    assert (play["item_id"], play["text"], play["categories"]) == ("0123456789", "Play.", [])
    assert not {"images", "videos", "details"} & set(strings)


def test_amazon_beauty(tmp_path: Path) -> None:
    """Of products the file that the config's own lines make of the published one."""
    reviews = [
        {
            "reviewerID": "A1",
            "reviewerName": "A",
            "asin": "B1",
            "helpful": [0, 0],
            "reviewText": "555 0100",
        }
        | {"overall": 5.0, "summary": "Good", "unixReviewTime": 1391040000, "reviewTime": "1 30"},
        {"reviewerID": "A1", "asin": "B9", "overall": 2.0, "unixReviewTime": 1391040000},
    ]
    published = "{'asin': 'B1', 'title': 'Red \\'n\\' blue', 'categories': [['Beauty', 'Nails']]}\n"
    (tmp_path / "meta_Beauty.json.gz").write_bytes(gzip.compress(published.encode()))
    lines = (CONFIGS / "amazon-beauty.yaml").read_text().split("python3 -c '")[1]
    program = lines.split("'\n#\n")[0].replace("\n#   ", "\n")
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    files = {
        "reviews_Beauty_5.json.gz": gzip.compress("\n".join(map(json.dumps, reviews)).encode()),
        "meta_Beauty.jsonl": (tmp_path / "meta_Beauty.jsonl").read_bytes(),
    }
    summary, table = snapshot("amazon-beauty", files, tmp_path)
    assert summary["rejected"]["events"] == {"unknown item": 1}
    (event,), (item,) = table("events"), table("items")
    assert event["timestamp"].isoformat() == "2014-01-30T00:00:00+00:00"
    assert "reviewText" not in event
    assert (item["title"], item["categories"]) == ("Red 'n' blue", ["Beauty", "Nails"])
