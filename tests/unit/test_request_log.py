"""The request log's files: whole ones, of whole requests, bounded, and never in an answer's way."""

import asyncio
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from feature_repo.replay.log_files import SCHEMA, log_files, partition
from recommender.pseudonyms import key_id, pseudonym
from serving.transformer import metrics
from serving.transformer.features import FeatureStatus, UserFeatures
from serving.transformer.merging import Ranking
from serving.transformer.request import OUTPUTS, Ask
from serving.transformer.request_log import writer
from serving.transformer.request_log.entry import Entry, Served, as_rows
from serving.transformer.request_log.log import RequestLog, open_log
from serving.transformer.request_log.retention import sweep
from serving.transformer.request_log.settings import RequestLogConfig
from serving.transformer.request_log.writer import LogWriter
from serving.transformer.wire import pack

KEY = b"a key of the tests alone, 1"
SERVED = Served("v1", "recommend_v1", KEY, key_id(KEY))
T0 = int(datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp() * 1e6)
OK = UserFeatures(["a", "ü"], 5.0, FeatureStatus.OK, T0 / 1e6 - 5, [1, 2])


def entry(name: str = "r1", received_us: int = T0, rows: int = 1, **changes: Any) -> Entry:
    ask = Ask(rows, [f"u{row}" for row in range(rows)], None, None, None, tuple(OUTPUTS))
    ranking = Ranking(pack(["x", "y"] * rows), np.float32([2, 1] * rows).tobytes(), 2)
    made = Entry(name, ask, [OK] * rows, ranking, received_us, received_us + 500, 3.5, "history")
    return made._replace(**changes)


def rows_below(folder: Path) -> list[dict[str, Any]]:
    return [row for file in log_files(folder) for row in pq.read_table(file.path).to_pylist()]


def counted(outcome: str) -> float:
    return metrics.LOG_ROWS.labels(outcome)._value.get()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    made: list[LogWriter] = []

    def start(**settings: Any) -> LogWriter:
        config = RequestLogConfig(share=1, **settings)
        made.append(LogWriter(tmp_path / "log", config, lambda some: as_rows(some, SERVED)))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_a_row_has_all_of_an_answer_and_no_user_id(tmp_path: Path) -> None:
    given = UserFeatures([b"g1", b"", b""], -1.0, FeatureStatus.GIVEN)
    asked = Ask(2, None, [list(given.history)] * 2, [[b"e", b""], [b"", b""]], 1, tuple(OUTPUTS))
    short = Ranking(pack(["x", "y", "z", ""]), np.float32([4, 3, 2, -1]).tobytes(), 2)
    rows = as_rows(
        [entry(), entry("", ask=asked, users=[given] * 2, ranking=short)], SERVED
    ).to_pylist()
    assert rows[0] == {
        "request_id": "r1",
        "row": 0,
        "received": datetime.fromtimestamp(T0 / 1e6, UTC),
        "as_of": datetime.fromtimestamp((T0 + 500) / 1e6, UTC),
        "user_id": pseudonym("u0", KEY),
        "user_key": key_id(KEY),
        "view": "history",
        "service": "recommend_v1",
        "model_version": "v1",
        "history": ["a", "ü"],
        "history_times": [1, 2],
        "event_time": datetime.fromtimestamp(T0 / 1e6 - 5, UTC),
        "feature_age_s": 5.0,
        "feature_status": "ok",
        "item_ids": ["x", "y"],
        "scores": [2.0, 1.0],
        "k": None,
        "exclude": [],
        "latency_ms": 3.5,
    }
    assert [row["history"] for row in rows[1:]] == [["g1"]] * 2
    assert [row["exclude"] for row in rows[1:]] == [["e"], []]
    assert [row["item_ids"] for row in rows[1:]] == [["x"], ["z"]]
    assert {row["user_id"] for row in rows[1:]} == {None}
    assert len({row["request_id"] for row in rows[1:]}) == 1
    assert [row["row"] for row in rows[1:]] == [0, 1]


def test_files_by_version_and_day_hold_everything_once(started: Any, tmp_path: Path) -> None:
    log = started(max_rows_per_file=20)
    names = [f"r{number}" for number in range(50)]
    before = counted("written")
    for number, name in enumerate(names):
        log.offer(entry(name, T0 + number * 3600 * 10**6))  # 12 hours of this day, 24 of the next
    log.close()
    files = log_files(tmp_path / "log")
    assert {(file.version, file.day.isoformat()) for file in files} == {
        ("v1", "2026-11-27"),
        ("v1", "2026-11-28"),
        ("v1", "2026-11-29"),
    }
    assert len(files) >= 4
    for file in files:
        table = pq.read_table(file.path)
        assert table.schema == SCHEMA
        assert {row.date() for row in table["received"].to_pylist()} == {file.day}
    assert sorted(row["request_id"] for row in rows_below(tmp_path / "log")) == sorted(names)
    assert counted("written") - before == 50
    assert not list((tmp_path / "log").rglob(".*"))


def test_it_is_written_after_a_while_without_more_requests(started: Any, tmp_path: Path) -> None:
    log = started(flush_s=0.1)
    log.offer(entry())
    deadline = time.monotonic() + 10
    while not log_files(tmp_path / "log"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(rows_below(tmp_path / "log")) == 1


def test_a_full_disk_is_counted_told_once_and_over_when_it_is_over(
    started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = True

    def write(table: Any, path: Path, **options: Any) -> None:
        if full:
            path.write_bytes(b"PAR1 half of a file")
            raise OSError(errno.ENOSPC, "No space left on device")
        pq.core.write_table(table, path, **options)

    monkeypatch.setattr(writer.pq, "write_table", write)
    log = started(max_rows_per_file=1)
    before = counted("failed")
    for round_ in range(2):
        log.offer(entry(rows=3))
        while counted("failed") < before + 3 * (round_ + 1):
            time.sleep(0.01)
    assert not [path for path in (tmp_path / "log").rglob("*") if path.is_file()]
    full = False
    log.offer(entry("after"))
    log.close()
    assert [row["request_id"] for row in rows_below(tmp_path / "log")] == ["after"]
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "No space left on device" in told[0].getMessage()


def test_what_waits_is_bounded(
    started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = UserFeatures(["x"] * 1000, 5.0, FeatureStatus.OK)
    one = entry(users=[long])
    monkeypatch.setattr(writer, "_MAX_WAITING", 10 * one.size)
    monkeypatch.setattr(writer, "_POLL_S", 3600.0)  # as while a disk hangs
    log = started()
    before = counted("dropped")
    for _ in range(25):
        log.offer(one)
    assert counted("dropped") - before == 15
    log.close()
    assert len(rows_below(tmp_path / "log")) == 10


def test_a_client_cannot_fill_memory_by_long_ids() -> None:
    given = UserFeatures([b"x" * 1024] * 1000, -1.0, FeatureStatus.GIVEN)
    assert entry(users=[given]).size > 1_024_000


def test_a_killed_writer_leaves_whole_files_and_loses_what_it_held(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "import test_request_log as t\n"
        "config = t.RequestLogConfig(share=1, max_rows_per_file=500, flush_s=0.2)\n"
        "log = t.LogWriter(Path(sys.argv[1]), config, lambda some: t.as_rows(some, t.SERVED))\n"
        "for number in range(10**9):\n"
        "    log.offer(t.entry(str(number)))\n"
        "    time.sleep(0.0002)\n"
        "    if number % 100 == 0: print(number, flush=True)\n"
    )
    folders = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": folders},
        text=True,
    )
    assert process.stdout is not None
    while len(log_files(tmp_path)) < 3:
        offered = int(process.stdout.readline())
    process.kill()
    process.wait()
    names = [int(row["request_id"]) for row in rows_below(tmp_path)]
    assert sorted(names) == list(range(len(names)))  # none twice, and none missing before the last
    assert len(names) <= offered + 2000


def test_old_days_and_too_many_bytes_go_and_the_newest_stays(tmp_path: Path) -> None:
    def file(version: str, day: str, size: int) -> Path:
        folder = partition(tmp_path, version, date.fromisoformat(day))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"part-{size}.parquet"
        path.write_bytes(b"x" * size)
        return path

    gone = [file("v1", "2026-11-01", 10), file("v2", "2026-11-12", 10)]
    kept = [file("v1", "2026-11-13", 100), file("v2", "2026-11-27", 300)]
    draft = kept[0].with_name(".part-1.parquet.host-1.aa.partial")
    draft.write_bytes(b"PAR1")
    assert sweep(tmp_path, 14, 10_000, date(2026, 11, 27)) == 2
    assert [path.exists() for path in (*gone, *kept, draft)] == [False, False, True, True, True]
    assert not gone[0].parent.exists()
    assert sweep(tmp_path, 14, 300, date(2026, 11, 27)) == 1
    assert [path.exists() for path in kept] == [False, True]
    os.utime(draft, (0, 0))
    sweep(tmp_path, 14, 300, date(2026, 11, 27))
    assert not (tmp_path / "version=v1").exists()


def test_the_sample_is_the_same_everywhere_and_about_as_large_as_asked() -> None:
    log, other = RequestLog(0.1, None), RequestLog(0.1, None)
    names = [f"request {number}" for number in range(20_000)]
    taken = [log.takes(name) for name in names]
    assert taken == [other.takes(name) for name in names]
    assert 0.09 < sum(taken) / len(taken) < 0.11
    by_chance = sum(log.takes("") for _ in range(20_000))
    assert 1_700 < by_chance < 2_300
    assert all(RequestLog(1.0, None).takes(name) for name in names[:100])
    assert not RequestLog(0.0, None).on


def test_without_a_key_or_a_folder_nothing_is_written_and_all_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "feature_store"  # not filled yet
    monkeypatch.delenv("KUBEREC_LOG_KEY", raising=False)
    before = counted("refused")
    log = open_log(RequestLogConfig(share=1), "v1", store)
    assert log.on
    log.offer(entry(rows=2))
    monkeypatch.setenv("KUBEREC_LOG_KEY", KEY.decode())
    on_cluster = open_log(RequestLogConfig(share=1), "v1", tmp_path / "feature_store.yaml")
    on_cluster.offer(entry())
    assert counted("refused") - before == 3
    messages = [record.getMessage() for record in caplog.records]
    assert "KUBEREC_LOG_KEY (serving.transformer.request_log.user_key_env) is not" in messages[0]
    assert "openssl rand" in messages[0]
    assert "request_log.folder is not set" in messages[1]
    assert not list(tmp_path.iterdir())

    log = open_log(RequestLogConfig(share=1), "v1", store)
    log.offer(entry("x" * 4000))
    asyncio.run(log.close())
    (row,) = rows_below(tmp_path / "request_log")
    assert row["request_id"] == "x" * 128


def test_settings_say_what_is_allowed() -> None:
    for wrong in ({"share": 1.5}, {"flush_s": 0}, {"user_key_env": "a key itself"}):
        with pytest.raises(ValidationError):
            RequestLogConfig.model_validate(wrong)
