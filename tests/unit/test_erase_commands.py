"""`kuberec pseudonym` and `kuberec erase-user` as they are typed."""

import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from ingestion.errors import IngestError
from ingestion.privacy.pseudonyms import pseudonym
from pipelines.cli import app
from pipelines.erase.command import NotErased
from recommender.errors import KuberecError

KEY = "a key of the tests alone, 1"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBEREC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KUBEREC_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SOME_KEY", KEY)
    # No line of a table is folded, whatever width the console was made with.
    monkeypatch.setattr("pipelines.options.console.width", 400)
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time"}
    source = {
        "name": "shop",
        "events": {"path": "events.csv", "format": "csv", "columns": columns},
        "items": {
            "path": "items.csv",
            "format": "csv",
            "columns": {"item_id": "id", "title": "name"},
        },
        "privacy": {"user_key_env": "SOME_KEY"},
    }
    path = tmp_path / "shop.yaml"
    path.write_text(yaml.safe_dump({"name": "shop", "source": source}))
    return path


def kuberec(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_pseudonyms_a_line_each(config: Path) -> None:
    done = kuberec("pseudonym", "u1", "u2", "--config", config)
    assert done.output.splitlines() == [pseudonym(user, KEY.encode()) for user in ("u1", "u2")]


def test_no_key_is_no_pseudonym(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = kuberec("pseudonym", "u1", "-c", config, "--set", "source.privacy.user_key_env=null")
    assert isinstance(refused.exception, KuberecError)
    assert "known by their own ids" in str(refused.exception)
    monkeypatch.delenv("SOME_KEY")
    for command in (["pseudonym", "u1", "-c", config], ["erase-user", "u1", config]):
        assert isinstance(kuberec(*command).exception, IngestError)


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_id_is_nobody(config: Path, tmp_path: Path, blank: str) -> None:
    log = tmp_path / "home" / "ingest.log"
    log.parent.mkdir()
    log.write_text("users: 5 rows\n")
    refused = kuberec("erase-user", blank, config)
    assert isinstance(refused.exception, KuberecError)
    assert "the user id is blank" in str(refused.exception)
    assert log.read_text() == "users: 5 rows\n"


def test_what_is_left_is_status_1(config: Path, tmp_path: Path) -> None:
    assert kuberec("erase-user", "user-42", config).exit_code == 0
    stuck = tmp_path / "home" / "weights.bin"
    stuck.write_bytes(b"\0\1 user-42 \0")
    (tmp_path / "home" / "torn.parquet").write_bytes(b"PAR1 and no more")
    os.mkfifo(tmp_path / "home" / "pipe")  # nobody writes to it
    done = kuberec("erase-user", "user-42", config)
    assert "cannot be read or written" in " ".join(done.output.split())
    assert (done.exit_code, type(done.exception)) == (1, NotErased)
    assert "a file that cannot be changed" in " ".join(done.output.split())
    assert "model versions were trained with" in " ".join(done.output.split())
