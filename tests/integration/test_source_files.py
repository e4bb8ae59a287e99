"""Sources in folders, read end to end: compressed or not, with a header line or without."""

import gzip
import http.server
import json
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion.errors import IngestError
from ingestion.ingest import ingest
from ingestion.reading.landing import source_files
from ingestion.sources import SourceConfig
from recommender.schema import table_path

EVENTS = [("a", "1", 10), ("b", "2", 20), ("c", "1", 30)]
ITEMS = [("1", "One"), ("2", "Two")]


def packed(name: str, content: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(content)
    return pa.compress(content, "zstd", asbytes=True) if name.endswith(".zst") else content


def delimited(rows: list[Any], header: str, between: str) -> bytes:
    lines = [between.join(map(str, row)) for row in rows]
    return "".join(f"{line}\n" for line in ([header] if header else []) + lines).encode()


def write(folder: Path, names: list[str], parts: list[bytes]) -> None:
    folder.mkdir()
    for name, part in zip(names, parts, strict=True):
        (folder / name).write_bytes(packed(name, part))


@pytest.mark.parametrize("form", ["csv", "without header", "jsonl", "parquet"])
def test_a_folder_of_files_is_one_table(tmp_path: Path, form: str) -> None:
    parts = [EVENTS[:1], EVENTS[1:2], EVENTS[2:]]
    columns, given = ("u", "i", "t"), {"format": form}
    if form == "csv":
        contents = [delimited(part, "u,i,t", ",") for part in parts]
    elif form == "without header":
        given = {"format": "csv", "delimiter": "::", "names": ["u", "i", "t"], "quote": ""}
        contents = [delimited(part, "", "::") for part in parts]
    elif form == "jsonl":
        contents = [
            b"".join(json.dumps(dict(zip(columns, row, strict=True))).encode() + b"\n" for row in p)
            for p in parts
        ]
    else:
        contents = []
        for part in parts:
            table = pa.table(dict(zip(columns, map(list, zip(*part, strict=True)), strict=True)))
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            contents.append(sink.getvalue().to_pybytes())
    end = given["format"]
    packings = ("", ".gz", ".zst") if form != "parquet" else ("", "", "")
    names = [f"{index}.{end}{packing}" for index, packing in enumerate(packings)]
    write(tmp_path / "events", names, contents)
    write(tmp_path / "items", ["items.csv.zst"], [delimited(ITEMS, "i,n", ",")])
    config = SourceConfig.model_validate(
        {
            "name": "folders",
            "events": given
            | {
                "path": str(tmp_path / "events"),
                "columns": {"user_id": "u", "item_id": "i", "timestamp": "t"},
                "filters": [{"column": "t", "at_least": 15}],
            },
            "items": {
                "path": f"{tmp_path}/items/*",
                "format": "csv",
                "columns": {"item_id": "i", "title": "n"},
            },
        }
    )
    summary = ingest(config, tmp_path / "snapshot")
    assert summary["read"] == {"items": 2, "events": 3}
    assert summary["filtered"]["events"] == {"t >= 15": 1}
    kept = pq.read_table(table_path(tmp_path / "snapshot", "events")).to_pylist()
    assert [(row["user_id"], row["item_id"]) for row in kept] == [("b", "2"), ("c", "1")]


def test_files_of_a_web_server(tmp_path: Path) -> None:
    write(tmp_path / "www", ["e.csv.gz", "i.csv"], [delimited(EVENTS, "u,i,t", ","), b""])
    (tmp_path / "www/i.csv").write_bytes(delimited(ITEMS, "i,n", ","))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = partial(Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        site = f"http://127.0.0.1:{server.server_port}"
        columns = {"user_id": "u", "item_id": "i", "timestamp": "t"}
        config = SourceConfig.model_validate(
            {
                "name": "web",
                "events": {"path": f"{site}/e.csv.gz", "format": "csv", "columns": columns},
                "items": {
                    "path": f"{site}/i.csv",
                    "format": "csv",
                    "columns": {"item_id": "i", "title": "n"},
                },
            }
        )
        missing = config.items.model_copy(update={"path": f"{site}/no.csv"})
        try:
            with pytest.raises(IngestError, match=r"no file matches 'http.*/no\.csv'"):
                source_files("items", missing, tmp_path, "duckdb")
            assert ingest(config, tmp_path / "snapshot")["kept"]["events"] == 3
        finally:
            server.shutdown()
            thread.join()
    with pytest.raises(IngestError, match=r"cannot list 'http.*Cannot connect to host"):
        source_files("items", missing, tmp_path, "duckdb")
