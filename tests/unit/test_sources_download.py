"""Downloads from a real HTTP server on this machine: whole, cut, wrong, missing; by hand."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestion.errors import IngestError
from ingestion.reading.download import fetch
from ingestion.sources import SourceConfig

CONTENT = bytes(range(256)) * 4000  # 1 MB


class Publisher(http.server.ThreadingHTTPServer):
    """Serves `files`; breaks off after `cut` bytes of a reply, and knows what was asked of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self.files: dict[str, bytes] = {}
        self.etags, self.ranges = True, True
        self.cut: int | None = None
        self.cuts = 0  # replies that are still to break off
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Reply(http.server.BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        publisher, asked = self.server, self.headers.get("Range")
        publisher.asked.append(asked)
        content = publisher.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        start = 0
        if asked and publisher.ranges and self.headers.get("If-Range") == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if publisher.etags:
            self.send_header("ETag", etag)
        self.end_headers()
        if publisher.cuts:
            publisher.cuts -= 1
            self.wfile.write(content[start : start + (publisher.cut or 0)])
            self.close_connection = True
        else:
            self.wfile.write(content[start:])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def config(*files: dict[str, Any], path: Any = "e.csv") -> SourceConfig:
    columns = {"user_id": "u", "item_id": "i", "timestamp": "t", "title": "n"}
    return SourceConfig.model_validate(
        {
            "name": "Small Set",
            "license": "for research",
            "events": {"path": path, "format": "csv", "columns": columns},
            "items": {"path": "/elsewhere/i.csv", "format": "csv", "columns": columns},
            "download": {"page": "https://publisher/page", "files": list(files)},
        }
    )


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"set/{name}.dat", content)
    return packed.getvalue()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_once_and_its_path_made_whole(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.files["/e.csv"] = CONTENT
    told: list[str] = []
    digest = hashlib.sha256(CONTENT).hexdigest()
    wanted = config({"url": f"{publisher.url}/e.csv", "sha256": digest})
    found = fetch(wanted, tmp_path, told.append)
    assert found.events.path == str(tmp_path / "small-set" / "e.csv")
    assert found.items.path == "/elsewhere/i.csv"
    assert Path(found.events.path).read_bytes() == CONTENT
    assert told[0].endswith("(see https://publisher/page; terms of use: for research)")
    assert fetch(found, tmp_path) == fetch(wanted, tmp_path) == found
    assert len(publisher.asked) == 1
    assert left(tmp_path) == [".lock", "e.csv"]
    several = fetch(
        config({"url": f"{publisher.url}/e.csv"}, path=["e.csv", "s3://b/x", "~/y"]), tmp_path
    )
    assert several.events.path == [
        str(tmp_path / "small-set" / "e.csv"),
        "s3://b/x",
        str(Path("~/y").expanduser()),
    ]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_unpacked(publisher: Publisher, tmp_path: Path, kind: str) -> None:
    content = zipped(a=b"one", b=b"two", c=b"three")
    if kind == "tar.gz":
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, text in (("a", b"one"), ("b", b"two")):
                member = tarfile.TarInfo(f"set/{name}.dat")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
        content = packed.getvalue()
    publisher.files[f"/set.{kind}"] = content
    file = {"url": f"{publisher.url}/set.{kind}", "md5": hashlib.md5(content).hexdigest()}
    fetch(config(file | {"members": ["set/a.dat", "set/b.dat"]}), tmp_path)
    assert (tmp_path / "small-set/set/b.dat").read_bytes() == b"two"
    assert left(tmp_path) == [".lock", "a.dat", "b.dat"]
    with pytest.raises(IngestError, match=r"has no set/z.dat; it has set/a.dat"):
        fetch(config(file | {"members": ["set/z.dat"]}), tmp_path)


def test_a_cut_connection_is_taken_up_again(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files["/e.csv"] = CONTENT
    publisher.cut, publisher.cuts = 300_000, 2
    fetch(config({"url": f"{publisher.url}/e.csv"}), tmp_path)
    assert (tmp_path / "small-set/e.csv").read_bytes() == CONTENT
    assert publisher.asked == [None, "bytes=300000-", "bytes=600000-"]


@pytest.mark.parametrize("able", ["ranges", "etags"])
def test_without_ranges_or_versions_it_begins_anew(
    publisher: Publisher, tmp_path: Path, able: str
) -> None:
    publisher.files["/e.csv"] = CONTENT
    publisher.cut, publisher.cuts = 300_000, 1
    setattr(publisher, able, False)
    fetch(config({"url": f"{publisher.url}/e.csv"}), tmp_path)
    assert (tmp_path / "small-set/e.csv").read_bytes() == CONTENT


def test_a_server_that_stops_is_named_and_the_next_run_goes_on(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.files["/e.csv"] = CONTENT
    wanted = config({"url": f"{publisher.url}/e.csv"})
    fetch_until_stop(publisher, wanted, tmp_path)
    assert left(tmp_path) == [".e.csv.partial", ".e.csv.version", ".lock"]
    fetch(wanted, tmp_path)
    assert (tmp_path / "small-set/e.csv").read_bytes() == CONTENT
    assert publisher.asked == ["bytes=300000-"]


def fetch_until_stop(publisher: Publisher, wanted: SourceConfig, folder: Path) -> None:
    """The first reply breaks off, and so does the second one, before its first byte."""

    class Stops(list[Any]):
        def append(self, asked: Any) -> None:
            super().append(asked)
            publisher.cut = 300_000 if asked is None else 0

    publisher.asked = Stops()
    publisher.cuts = 9
    with pytest.raises(IngestError, match=r"300,000 of 1,024,000 bytes and stopped"):
        fetch(wanted, folder)
    publisher.asked, publisher.cuts = [], 0


def test_a_file_that_changed_meanwhile_is_fetched_whole(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.files["/e.csv"] = CONTENT
    wanted = config({"url": f"{publisher.url}/e.csv"})
    fetch_until_stop(publisher, wanted, tmp_path)
    publisher.files["/e.csv"] = CONTENT[::-1]
    fetch(wanted, tmp_path)
    assert (tmp_path / "small-set/e.csv").read_bytes() == CONTENT[::-1]


def test_a_wrong_checksum_is_no_data(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files["/e.csv"] = b"something else"
    wanted = config({"url": f"{publisher.url}/e.csv", "md5": "0" * 32})
    with pytest.raises(IngestError, match=r"its md5 is [0-9a-f]{32}, but 0{32} was published"):
        fetch(wanted, tmp_path)
    assert left(tmp_path) == [".lock"]


def test_what_cannot_be_reached_says_how_to_do_it_by_hand(
    publisher: Publisher, tmp_path: Path
) -> None:
    file = {"members": ["set/a.dat", "set/b.dat"]}
    place = tmp_path / "small-set"
    with pytest.raises(IngestError) as missing:
        fetch(config(file | {"url": f"{publisher.url}/set.zip"}), tmp_path)
    text = str(missing.value)
    assert text.startswith(f"cannot download {publisher.url}/set.zip: the server says 404")
    assert "1. open https://publisher/page" in text
    assert f"3. put 'set.zip', or what is in it (set/a.dat, set/b.dat), into '{place}'" in text
    with pytest.raises(IngestError, match=r"127\.0\.0\.1:9/set\.zip: .*Connection refused"):
        fetch(config(file | {"url": "http://127.0.0.1:9/set.zip"}), tmp_path)
    # By hand, the archive:
    (place / "set.zip").write_bytes(zipped(a=b"one", b=b"two"))
    fetch(config(file | {"url": "http://127.0.0.1:9/set.zip"}), tmp_path)
    assert (place / "set/a.dat").read_bytes() == b"one"
    # By hand, what is in it:
    (place / "set.zip").unlink()
    (place / "set/a.dat").write_bytes(b"other")
    fetch(config(file | {"url": "http://127.0.0.1:9/set.zip"}), tmp_path)
    assert (place / "set/a.dat").read_bytes() == b"other"


def test_an_archive_by_hand_that_is_damaged(tmp_path: Path) -> None:
    file = {"url": "http://127.0.0.1:9/set.zip", "members": ["set/a.dat"]}
    (tmp_path / "small-set").mkdir()
    (tmp_path / "small-set/set.zip").write_bytes(zipped(a=CONTENT)[:-100])
    with pytest.raises(IngestError, match=r"set\.zip .*no archive that can be unpacked"):
        fetch(config(file), tmp_path)
    with pytest.raises(IngestError, match=r"was published .* delete '.*set\.zip'"):
        fetch(config(file | {"md5": "0" * 32}), tmp_path)
