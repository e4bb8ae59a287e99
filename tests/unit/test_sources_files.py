"""Where the files of a table are found, and how they are opened."""

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ingestion.errors import IngestError
from ingestion.reading.files import find_files, open_file
from ingestion.reading.landing import source_fingerprint
from ingestion.sources import SourceConfig, TableSource


def table(path: Any, form: str = "csv", **given: Any) -> TableSource:
    return TableSource.model_validate({"path": path, "format": form, "columns": {}} | given)


def names(source: TableSource, folder: Path) -> list[str]:
    return [str(Path(file.path).relative_to(folder)) for file in find_files("events", source)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "e2.csv",
        "e1.csv",
        "b/c.csv.gz",
        "b/_SUCCESS",
        "_log/d.csv",
        "b/.e.csv",
        "f.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_pattern_finds_files_in_order(folder: Path) -> None:
    assert names(table(f"{folder}/e*.csv"), folder) == ["e1.csv", "e2.csv"]
    assert names(table(f"{folder}/**/c*"), folder) == ["b/c.csv.gz"]
    assert names(table(f"file://{folder}/e1.csv"), folder) == ["e1.csv"]


def test_a_folder_is_its_files_of_the_format(folder: Path) -> None:
    assert names(table(str(folder)), folder) == ["b/c.csv.gz", "e1.csv", "e2.csv"]
    assert names(table(f"{folder}/"), folder) == ["b/c.csv.gz", "e1.csv", "e2.csv"]
    assert names(table(str(folder), "jsonl"), folder) == ["f.json"]
    with pytest.raises(IngestError, match=r"no files that end with \.parquet, .* it has b/c\.csv"):
        names(table(str(folder), "parquet"), folder)


def test_a_list_keeps_its_order_and_reads_no_file_twice(folder: Path) -> None:
    paths = [f"{folder}/e2.csv", f"{folder}/*.csv", str(folder / "b")]
    assert names(table(paths), folder) == ["e2.csv", "e1.csv", "b/c.csv.gz"]


def test_missing_files_say_what_to_do(folder: Path) -> None:
    with pytest.raises(IngestError, match=r"no file matches .*correct source\.events\.path"):
        find_files("events", table(f"{folder}/x*.csv"))
    with pytest.raises(IngestError, match=r"no file matches '.*nothing\.csv'"):
        find_files("events", table([f"{folder}/e1.csv", f"{folder}/nothing.csv"]))


def test_a_file_inside_a_package_is_found_without_importing_it() -> None:
    found = find_files("events", table("pyarrow/__init__.py", package="pyarrow"))
    assert Path(found[0].path).name == "__init__.py"
    with pytest.raises(IngestError, match=r"'no-such-package' is not installed.*drop `package`"):
        find_files("events", table("x", package="no-such-package"))


def test_file_systems_that_are_not_there() -> None:
    with pytest.raises(IngestError, match=r"'gs://bucket/x' cannot be opened: .*gcsfs"):
        find_files("events", table("gs://bucket/x"))
    with pytest.raises(IngestError, match="there is no file system 'swift9'"):
        find_files("events", table("swift9://bucket/x"))


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.csv.zst", "e.bin"])
def test_files_are_decompressed(tmp_path: Path, name: str) -> None:
    text = b"u,i,t\n" * 1000
    packing = {".gz": gzip.compress, ".zst": lambda data: pa.compress(data, "zstd", asbytes=True)}
    packed = packing.get(Path(name).suffix, lambda data: data)(text)
    if name == "e.bin":
        packed = gzip.compress(text)
    (tmp_path / name).write_bytes(packed)
    compression = "gzip" if name == "e.bin" else "auto"
    source = table(str(tmp_path / name), compression=compression)
    with open_file(find_files("events", source)[0], source) as stream:
        assert stream.readline() == b"u,i,t\n"
        assert stream.read() == text[6:]


def test_the_fingerprint_is_the_content(tmp_path: Path) -> None:
    columns = {"user_id": "u", "item_id": "i", "timestamp": "t", "title": "n"}
    one = {"format": "csv", "columns": columns}
    config = SourceConfig.model_validate(
        {
            "name": "small",
            "events": one | {"path": f"{tmp_path}/e*.csv"},
            "items": one | {"path": f"{tmp_path}/items.csv"},
        }
    )
    (tmp_path / "items.csv").write_text("i,n\n1,One\n")
    (tmp_path / "e1.csv").write_text("u,i,t\n1,1,1\n")
    before = source_fingerprint(config)
    assert source_fingerprint(config) == before
    (tmp_path / "e1.csv").write_text("u,i,t\n1,1,2\n")
    changed = source_fingerprint(config)
    (tmp_path / "e2.csv").write_text("u,i,t\n")
    assert len({before, changed, source_fingerprint(config)}) == 3
