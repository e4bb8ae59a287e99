"""A user in request logs: wherever they lie, under every key that is at hand."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from replay_tables import KEY, log_row, write_log

from ingestion.sources import SourceConfig
from pipelines.erase.erase import erase_user
from pipelines.erase.report import Report
from recommender.pseudonyms import KeyMissing, key_id, pseudonym
from serving.transformer.request_log.settings import RequestLogConfig

SOURCE_KEY, OLD = b"the key of a source's pseudonyms", b"a key of the log of before"
T = 10**15


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in (("KUBEREC_LOG_KEY", KEY), ("SHOP_KEY", SOURCE_KEY), ("OLD_LOG_KEY", OLD)):
        monkeypatch.setenv(name, key.decode())


def erase(folder: Path, old_keys: list[str], log: Path | None = None, dry: bool = False) -> Report:
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time"}
    events = {"path": "events.csv", "format": "csv", "columns": columns}
    items = {**events, "path": "items.csv", "columns": {"item_id": "id", "title": "name"}}
    content = {"name": "shop", "events": events, "items": items}
    source = SourceConfig.model_validate(content | {"privacy": {"user_key_env": "SHOP_KEY"}})
    config = RequestLogConfig(folder=str(log) if log else None)
    return erase_user(
        "u42",
        source,
        home=folder / "home",
        runs=folder / "runs",
        old_keys=old_keys,
        dry_run=dry,
        request_log=config,
    )


def users(log: Path) -> list[str]:
    return [row["user_id"] for path in log.rglob("*.parquet") for row in rows(path)]


def rows(path: Path) -> list[dict[str, str]]:
    return list(pq.read_table(path).to_pylist())


def test_a_log_elsewhere_asked_by_raw_ids_and_by_a_source_s_pseudonyms(tmp_path: Path) -> None:
    log = tmp_path / "volume" / "log"
    sent = ["u42", pseudonym("u42", SOURCE_KEY), "u7"]  # as clients may name one user
    write_log(log, [log_row(user, [(1, "a")], T) for user in sent])
    assert not erase(tmp_path, [], log, dry=True).is_left
    assert len(users(log)) == 3
    report = erase(tmp_path, [], log)
    assert not report.is_left
    assert users(log) == [pseudonym("u7", KEY)]


def test_rows_under_a_key_that_is_not_at_hand_are_told(tmp_path: Path) -> None:
    log = tmp_path / "home" / "request_log"
    old = {"user_id": pseudonym("u42", OLD), "user_key": key_id(OLD)}
    write_log(log, [log_row("u42", [], T), log_row("u42", [], T) | old])
    report = erase(tmp_path, [])
    (left,) = [each for each in report.found if each.left]
    assert left.place == str(log)
    assert left.what == f"1 row of anybody, under the key {key_id(OLD)}"
    assert len(users(log)) == 1
    assert not erase(tmp_path, ["OLD_LOG_KEY"]).is_left
    assert users(log) == []


def test_a_log_without_its_key_is_an_error_before_anything_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_log(tmp_path / "home" / "request_log", [log_row("u42", [], T)])
    monkeypatch.delenv("KUBEREC_LOG_KEY")
    with pytest.raises(KeyMissing, match="KUBEREC_LOG_KEY"):
        erase(tmp_path, [])
    assert not (tmp_path / "home" / "ingest").exists()
    assert not erase(tmp_path / "a home without a log", []).found
