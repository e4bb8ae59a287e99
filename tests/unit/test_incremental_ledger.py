"""Each content of a partition is read once, and a kill at any moment leaves the ledger right."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion.errors import IngestError
from ingestion.incremental.ledger import Ledger


def rows(*values: str) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table({"value": list(values)}), path)


def never(path: Path) -> None:
    raise AssertionError("it is read again")


def values(path: Path) -> list[str]:
    return pq.read_table(path)["value"].to_pylist()


def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    with Ledger(tmp_path, "r") as ledger:
        first = ledger.staged("1", "c", rows("a", "b"))
        assert ledger.staged("1", "c", never) == first
        assert ledger.read == ["1"]
    with Ledger(tmp_path, "r") as ledger:
        assert values(ledger.staged("1", "c", never)) == ["a", "b"]
        assert ledger.staged("2", "c", rows("c")) != first
        assert ledger.read == ["2"]
        assert {name: entry.rows for name, entry in ledger.entries.items()} == {"1": 2, "2": 1}


def test_a_day_that_comes_again_replaces_itself(tmp_path: Path) -> None:
    with Ledger(tmp_path, "r") as ledger:
        old = ledger.staged("1", "c", rows("a"))
        new = ledger.staged("1", "d", rows("b", "c"))
        assert values(new) == ["b", "c"]
        assert not old.exists()
        assert list((tmp_path / "increments").iterdir()) == [new]


def test_other_settings_stage_anew(tmp_path: Path) -> None:
    with Ledger(tmp_path, "r") as ledger:
        ledger.staged("1", "c", rows("a"))
    with Ledger(tmp_path, "other") as ledger:
        assert values(ledger.staged("1", "c", rows("b"))) == ["b"]


@pytest.mark.parametrize("step", ["rows are being written", "rows are there", "ledger is there"])
def test_a_kill_leaves_what_was_there(step: str, tmp_path: Path) -> None:
    with Ledger(tmp_path, "r") as ledger:
        ledger.staged("1", "c", rows("a"))
    before = (tmp_path / "ledger.json").read_bytes()
    rows("b")(tmp_path / "b.parquet")
    content = (tmp_path / "b.parquet").read_bytes()
    if (child := os.fork()) == 0:
        try:
            _die_within(tmp_path, step, content)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 9
    with Ledger(tmp_path, "r") as ledger:
        if step == "ledger is there":
            assert values(ledger.staged("1", "d", never)) == ["b"]
        else:
            assert (tmp_path / "ledger.json").read_bytes() == before
            assert values(ledger.staged("1", "c", never)) == ["a"]
            assert values(ledger.staged("1", "d", rows("b"))) == ["b"]
        staged = ledger.staged("1", "d", never)
    with Ledger(tmp_path, "r"):
        assert list((tmp_path / "increments").iterdir()) == [staged]


def _die_within(state: Path, step: str, content: bytes) -> None:
    """In a child of ours, which starts no thread: the parent's are not there."""
    unlink = Path.unlink

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), 9)

    def make(path: Path) -> None:
        path.write_bytes(content)
        if step == "rows are being written":
            die()

    def remove(path: Path, missing_ok: bool = False) -> None:
        die() if path.suffix == ".parquet" else unlink(path, missing_ok)

    ledger = Ledger(state, "r")
    if step == "rows are there":
        ledger._save = die  # type: ignore[method-assign]
    elif step == "ledger is there":
        Path.unlink = remove  # type: ignore[method-assign]
    ledger.staged("1", "d", make)


def test_what_make_raises_changes_nothing(tmp_path: Path) -> None:
    def fails(path: Path) -> None:
        rows("b")(path)
        raise IngestError("no")

    with Ledger(tmp_path, "r") as ledger:
        ledger.staged("1", "c", rows("a"))
        with pytest.raises(IngestError, match="no"):
            ledger.staged("1", "d", fails)
        assert values(ledger.staged("1", "c", never)) == ["a"]
        assert len(list((tmp_path / "increments").iterdir())) == 1


def test_increments_that_somebody_removed_are_read_again(tmp_path: Path) -> None:
    with Ledger(tmp_path, "r") as ledger:
        ledger.staged("1", "c", rows("a")).unlink()
        assert values(ledger.staged("1", "c", rows("a"))) == ["a"]


def test_a_partition_without_files(tmp_path: Path) -> None:
    with Ledger(tmp_path, "r") as ledger:
        one = ledger.staged("1", "c", rows("a", "b"))
        ledger.staged("2", "c", rows("c"))
        assert ledger.gone(["1", "2", "3"], "error") == {}
        with pytest.raises(IngestError, match=r"1 partitions .*: '1' \(2 rows\)\. Put .*removed"):
            ledger.gone(["2"], "error")
        assert ledger.gone(["2"], "keep") == {"1": one}
    with Ledger(tmp_path, "other") as ledger, pytest.raises(IngestError, match="other settings"):
        ledger.gone(["2"], "keep")
    with Ledger(tmp_path, "r") as ledger:
        assert ledger.gone(["2"], "drop") == {}
        assert set(ledger.entries) == {"2"}
        assert not one.exists()


@pytest.mark.parametrize(("before", "after"), [(None, "aa"), ("aa", "bb"), ("aa", None)])
def test_two_keys_are_not_mixed(before: str | None, after: str | None, tmp_path: Path) -> None:
    with Ledger(tmp_path, "r", before):
        pass  # nothing is staged yet: any key will do
    with Ledger(tmp_path, "r", after), Ledger(tmp_path / "other", "r", before) as ledger:
        ledger.staged("1", "c", rows("a"))
    with pytest.raises(IngestError, match=r"a user would be two\. .*remove '.*increments'"):
        Ledger(tmp_path / "other", "r", after)
    with Ledger(tmp_path / "other", "r", before) as ledger:
        ledger.staged("1", "c", never)


def test_the_watermark_is_the_newest_event(tmp_path: Path) -> None:
    newest = {"1": datetime(2024, 1, 2, tzinfo=UTC), "2": datetime(2024, 1, 1, tzinfo=UTC)}
    with Ledger(tmp_path, "r") as ledger:
        assert ledger.watermark is None
        for name in newest:
            ledger.staged(name, "c", rows("a"))
        ledger.note_newest(newest)
    with Ledger(tmp_path, "r") as ledger:
        assert ledger.watermark == newest["1"]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with Ledger(tmp_path, "r"), pytest.raises(IngestError, match="another ingestion uses"):
        Ledger(tmp_path, "r")
    Ledger(tmp_path, "r").close()
