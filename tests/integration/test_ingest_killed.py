"""Ingestion killed half-way: what was there stays, and it can be started again."""

import subprocess
import sys
from pathlib import Path

from ingestion.ingest import ingest
from ingestion.sources import SourceConfig
from recommender.files import read_json


def source(folder: Path) -> SourceConfig:
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time"}
    events = {"path": str(folder / "events.csv"), "format": "csv", "columns": columns}
    columns = {"item_id": "id", "title": "name"}
    items = {"path": str(folder / "items.csv"), "format": "csv", "columns": columns}
    return SourceConfig.model_validate({"name": "small", "events": events, "items": items})


def test_a_kill_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,name\na,Alpha\nb,Beta\n")
    (tmp_path / "events.csv").write_text("user,item,time\nu1,a,1\nu1,b,2\n")
    before = ingest(source(tmp_path), tmp_path / "snapshot")
    (tmp_path / "events.csv").write_text("user,item,time\nu9,a,1\n")
    script = (
        "import os, sys; from pathlib import Path; from ingestion.ingest import ingest;"
        "from ingestion.sources import SourceConfig;"
        "stop = lambda step: os.kill(os.getpid(), 9) if step == 'write items' else None;"
        "ingest(SourceConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]), stop)"
    )
    arguments = [source(tmp_path).model_dump_json(), str(tmp_path / "snapshot")]
    killed = subprocess.run([sys.executable, "-c", script, *arguments], check=False)
    assert killed.returncode == -9
    assert read_json(tmp_path / "snapshot" / "snapshot.json") == before
    after = ingest(source(tmp_path), tmp_path / "snapshot")
    assert after["kept"]["events"] == 1
