"""What a real transformer logs, replayed: nothing while the store is right, every cause once it is
not."""

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from replay_tables import KEY, write_events
from tiny_endpoint import VERSION
from tiny_transformer import QUICK, Parts, ask, ids, numbers, transformer, users
from tiny_version import catalogue, write_tiny_version
from typer.testing import CliRunner
from wire import rest_request, tensor

from feature_repo.config import EVENT_TIME
from feature_repo.replay.causes import Cause
from feature_repo.replay.events import offline_events
from feature_repo.replay.log_files import log_files
from feature_repo.replay.replay import replay
from feature_repo.replay.report import Report
from feature_repo.store import open_store
from pipelines.cli import app
from recommender.errors import KuberecError
from recommender.pseudonyms import pseudonym
from serving.settings import ViewFreshness
from serving.transformer.features import FeatureStatus
from serving.transformer.request_log.settings import RequestLogConfig
from serving.triton.server import temporary_triton

pytestmark = pytest.mark.timeout(120)
NOW = datetime.now(UTC).replace(microsecond=250_000)
S = 10**6
LENGTH = 4
CONFIG = QUICK.model_copy(
    update={
        "request_log": RequestLogConfig(share=1, flush_s=60),
        "freshness": {"user_history": ViewFreshness(max_age_s=30 * 86_400, policy="fallback")},
    }
)


def ago(**span: float) -> int:
    return int((NOW - timedelta(**span)).timestamp() * S)


def daily(*items: str, last: int) -> list[tuple[int, str]]:
    """Events a day apart; the last at `last`."""
    return [(last - 86_400 * S * back, item) for back, item in enumerate(reversed(items))][::-1]


FOUR = [f"item-{n}" for n in range(1, 5)]
TRUE = {
    "good": daily(*FOUR, last=ago(hours=3)),
    "long": daily("item-9", "item-8", *FOUR, last=ago(days=3)),
    "overdue": daily(*FOUR, last=ago(days=3)),
    "behind": daily(*FOUR, last=ago(hours=1)),
    "hole": daily(*FOUR, last=ago(hours=3)),
    "mixed": daily(*FOUR, last=ago(hours=3)),
    "extra": daily(*FOUR[:2], last=ago(hours=3)),
    "odd": daily(*FOUR[:2], last=ago(hours=3)),
    "live": daily(*FOUR[:2], last=ago(hours=3)),
    "ahead": daily(*FOUR[:2], last=ago(hours=3)),
    "short": daily(*FOUR, last=ago(hours=3)),
    "absent": daily(*FOUR, last=ago(days=3)),
    "stale": daily(*FOUR, last=ago(days=40)),
}
COVERED = ago(minutes=30)
# What is put into the store in place of the truth, and what a replay is to say of it.
WRONG: dict[str, tuple[list[tuple[int, str]] | None, Cause]] = {
    "overdue": (TRUE["overdue"][:-1], Cause.NOT_MATERIALISED),
    "behind": (TRUE["behind"][:-1], Cause.LAG),
    "hole": ([*TRUE["hole"][:2], TRUE["hole"][3]], Cause.LATE_EVENT),
    "mixed": ([TRUE["mixed"][each] for each in (1, 0, 2, 3)], Cause.ORDER),
    "extra": ([*TRUE["extra"], (ago(hours=2), "item-9")], Cause.EXTRA_EVENT),
    "odd": ([*TRUE["odd"], (ago(hours=2), "dropped")], Cause.UNKNOWN_ITEM),
    "live": ([*TRUE["live"], (ago(minutes=10), "item-7")], Cause.PUSHED),
    "ahead": ([*TRUE["ahead"], (ago(hours=-2), "item-7")], Cause.FUTURE_EVENT),
    "short": (TRUE["short"][2:], Cause.TRUNCATED),
    "absent": (None, Cause.MISSING_USER),
}


def put(folder: Path, histories: dict[str, list[tuple[int, str]]]) -> None:
    """Rows into the online store, as Feast writes them."""
    from feature_repo.entities import user
    from feature_repo.services import recommend_service
    from feature_repo.views import user_history

    latest = {name: max(time for time, _ in rows) for name, rows in histories.items()}
    moments = [pd.Timestamp(time, unit="us", tz="UTC") for time in latest.values()]
    rows = pd.DataFrame(
        {
            "user_id": list(histories),
            "history": [[item for _, item in rows] for rows in histories.values()],
            "history_times": [[time for time, _ in rows] for rows in histories.values()],
            "history_ranks": [[0] * len(rows) for rows in histories.values()],
            "event_count": [len(rows) for rows in histories.values()],
            "last_event_time": moments,
            EVENT_TIME: moments,
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(folder)
    view = user_history(folder)
    pq.write_table(pa.Table.from_pandas(rows), folder / "user_history.parquet")
    store.apply([user, view, recommend_service(VERSION, view)])
    store.write_to_online_store(view.name, df=rows)


class Served(NamedTuple):
    """What was asked in two parts, before and after `changed`, and what came of it."""

    home: Path
    offline: Path
    changed: datetime
    metrics: dict[str, float]
    answers: list[Any]

    @property
    def log(self) -> Path:
        return self.home / "request_log"

    def replayed(self, **options: Any) -> Report:
        return replay(self.log, offline_events(self.offline), KEY, **options)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("replay") / "home"
    store = home / "feature_store"
    version = write_tiny_version(home / VERSION, catalogue(12), VERSION)
    present = {name: rows[-LENGTH:] for name, rows in TRUE.items()}
    put(store, present)
    offline = write_events(home / "offline", TRUE, LENGTH, COVERED)
    with pytest.MonkeyPatch.context() as patch, temporary_triton(version, home / "t") as triton:
        patch.setenv("KUBEREC_LOG_KEY", KEY.decode())
        with transformer(Parts(version, store, triton, home), CONFIG) as server:
            url = server.http_url
            answers = [ask(url, rest_request(users(name))).outputs for name in TRUE]
            answers.append(ask(url, rest_request(users("good", "long", "nobody"))).outputs)
            ask(url, rest_request(ids("history", ["item-1", "item-2"])))
            ask(server.side_url, rest_request(users("good")))  # a rollout's
            ask(url, rest_request(users("good"), tensor("k", [1], [99], "INT64")))  # refused
            changed = datetime.now(UTC)
            put(store, {name: rows for name, (rows, _) in WRONG.items() if rows})
            forget(store, "absent")
            answers += [ask(url, rest_request(users(name))).outputs for name in TRUE]
            counted = numbers(server)
        yield Served(home, offline, changed, counted, answers)


def forget(store: Path, name: str) -> None:
    with sqlite3.connect(store / "online.db") as database:
        database.execute(
            "DELETE FROM kuberec_user_history WHERE instr(entity_key, ?) > 0", (name.encode(),)
        )


def test_everything_that_clients_were_answered_is_there_when_it_has_ended(served: Served) -> None:
    (file,) = log_files(served.log)
    rows = pq.read_table(file.path).to_pylist()
    assert (file.version, len(rows)) == (VERSION, 2 * len(TRUE) + 3 + 1)
    assert served.metrics['kuberec_request_log_rows_total{outcome="dropped"}'] == 0
    answered = rows[0]
    assert answered["user_id"] == pseudonym("good", KEY)
    assert answered["history"] == FOUR
    assert answered["history_times"] == [time for time, _ in TRUE["good"]]
    assert answered["event_time"] == datetime.fromtimestamp(TRUE["good"][-1][0] // S, UTC)
    age = answered["as_of"] - answered["event_time"]
    assert answered["feature_age_s"] == pytest.approx(age.total_seconds(), abs=5)
    assert answered["item_ids"] == served.answers[0]["item_ids"]
    assert answered["scores"] == pytest.approx(served.answers[0]["scores"])
    assert 0 < answered["latency_ms"] < 5000
    batch = [row for row in rows if row["request_id"] == rows[len(TRUE)]["request_id"]]
    assert [row["row"] for row in batch] == [0, 1, 2]
    assert [row["feature_status"] for row in batch] == ["ok", "ok", "unknown"]
    given = rows[len(TRUE) + 3]
    assert (given["user_id"], given["feature_status"]) == (None, FeatureStatus.GIVEN)
    assert not [row for row in rows if row["user_id"] in TRUE]


def test_a_store_that_is_right_has_no_skew(served: Served) -> None:
    before = served.replayed(until=served.changed)
    assert before.causes == {Cause.GIVEN: 1, Cause.NO_FEATURES: 1, Cause.MATCH: len(TRUE) + 2}
    assert before.share == 0


def test_every_tampering_is_told_by_its_cause(served: Served) -> None:
    after = served.replayed(since=served.changed)
    assert after.causes == {
        **dict.fromkeys((cause for _, cause in WRONG.values()), 1),
        Cause.NO_FEATURES: 1,
        Cause.MATCH: 2,
    }
    assert (after.compared, after.skewed) == (len(TRUE) - 1, 8)
    told = {cause: example.user_id for cause, some in after.examples.items() for example in some}
    assert told == {cause: pseudonym(name, KEY) for name, (_, cause) in WRONG.items()}


def test_the_command_shows_it_and_ends_with_status_1(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBEREC_HOME", str(served.home))
    monkeypatch.setenv("KUBEREC_LOG_KEY", KEY.decode())
    arguments = ["features", "replay", "--features", str(served.offline)]
    told = CliRunner().invoke(
        app, [*arguments, "--json", "--until", f"{served.changed:%Y-%m-%dT%H:%M:%S}"]
    )
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["share"] == 0
    page = tmp_path / "skew.md"
    found = CliRunner().invoke(app, [*arguments, "--report", str(page)])
    assert isinstance(found.exception, KuberecError)
    assert "8 of 27 compared" in str(found.exception)
    text = page.read_text()
    assert "| late_event | skew | 1 |" in text
    for name in TRUE:
        assert f"user {name}" not in found.stdout
        assert f"| {name} |" not in text
    lenient = CliRunner().invoke(app, [*arguments, "--max-share", "0.5"])
    assert lenient.exit_code == 0, lenient.output
    monkeypatch.setenv("KUBEREC_LOG_KEY", "another key of the tests alone")
    other = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(other.stdout)["compared"] == 0
