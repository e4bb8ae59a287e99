"""`validation.skew`: a run stops before training where serving was shown something else."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from replay_tables import KEY, log_row, write_log

from components.gate import gate
from components.skew import Skew, check_skew
from components.step import HOME_VARIABLE
from components.validate import validate
from ingestion.ingest import ingest
from ingestion.sources import SourceConfig
from ingestion.validation.skew_settings import SkewConfig
from recommender.files import read_json
from recommender.pseudonyms import KeyMissing
from reporting.summary import _skew

pytestmark = pytest.mark.timeout(120)
S, LENGTH, DAY_2020 = 10**6, 3, 1_577_836_800
NOW = int(datetime.now(UTC).timestamp()) * S
CONFIG = {"log": "request_log", "min_rows": 20, "allow_lag_h": 1}
USERS = [f"u{number}" for number in range(8)]


def silent(done: int, total: int, message: str) -> None:
    pass


def true_history(user: str) -> list[tuple[int, str]]:
    """Two events of each user share a time: their order is that of the file."""
    number = int(user[1:])
    times = [100, 200, 200, 300, 400]
    return [((DAY_2020 + time) * S, f"i{(number + each) % 6}") for each, time in enumerate(times)]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    rows = [f"{user},{item},{time // S}\n" for user in USERS for time, item in true_history(user)]
    (folder / "events.csv").write_text("user,item,time\n" + "".join(rows))
    (folder / "items.csv").write_text("id,name\n" + "".join(f"i{n},Title {n}\n" for n in range(6)))
    columns = {"user_id": "user", "item_id": "item", "timestamp": "time"}
    source = SourceConfig.model_validate(
        {
            "name": "shop",
            "events": {"path": str(folder / "events.csv"), "format": "csv", "columns": columns},
            "items": {
                "path": str(folder / "items.csv"),
                "format": "csv",
                "columns": {"item_id": "id", "title": "name"},
            },
        }
    )
    ingest(source, folder / "snapshot")
    return folder / "snapshot"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setenv("KUBEREC_LOG_KEY", KEY.decode())
    (tmp_path / "report").mkdir()
    return tmp_path / "home"


def served(right: int, wrong: int) -> list[dict[str, Any]]:
    """Rows of a log: `right` as they should be, and `wrong` in another order."""
    rows = []
    for number in range(right + wrong):
        user = USERS[number % len(USERS)]
        used = true_history(user)[-LENGTH:]
        used = used if number < right else [used[1], used[0], used[2]]
        rows.append(log_row(user, used, NOW - number * S, request_id=f"r{number}"))
    return rows


def checked(home: Path, snapshot: Path, **settings: Any) -> Skew:
    config = SkewConfig.model_validate(CONFIG | settings)
    return check_skew(config, snapshot, LENGTH, home, home.parent / "report", silent)


def test_rows_as_they_should_be_pass_and_the_page_says_so(home: Path, snapshot: Path) -> None:
    write_log(home / "request_log", served(30, 0))
    found = checked(home, snapshot)
    assert found.failure is None
    assert found.check is not None
    assert found.check.as_dict() == {
        "name": "features.skew: share of logged requests",
        "value": 0.0,
        "limit": "< 0.001, of 30 compared",
        "passed": True,
    }
    told = _skew(home.parent / "report" / "skew.json")
    assert told is not None
    assert told["said"].startswith("feature skew: 0 of 30 compared rows are skew: 0.000%")
    assert [row["cause"] for row in told["causes"]] == ["match"]
    assert "# Feature skew" in (home.parent / "report" / "skew.md").read_text()


@pytest.mark.parametrize(
    ("rows", "settings", "said"),
    [
        (None, {}, "there is no request log"),
        ((10, 9), {}, "19 of 19 logged rows of 7 days can be compared, and 20 are needed"),
        ((30, 0), {"since_days": 1e-4}, "and 20 are needed"),
    ],
)
def test_too_little_is_said_and_stops_nothing(
    home: Path, snapshot: Path, rows: Any, settings: Any, said: str
) -> None:
    if rows:
        write_log(home / "request_log", served(*rows))
    found = checked(home, snapshot, **settings)
    assert (found.check, found.failure) == (None, None)
    assert said in found.said
    assert read_json(home.parent / "report" / "skew.json")["said"] == found.said


def test_a_gate_without_a_key_is_an_error(
    home: Path, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBEREC_LOG_KEY")
    with pytest.raises(KeyMissing, match=r"KUBEREC_LOG_KEY \(validation\.skew\.user_key_env\)"):
        checked(home, snapshot)


def test_skew_stops_the_run_at_the_gate_before_training(
    home: Path, snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_log(home / "request_log", served(29, 1))
    report = home.parent / "report"

    def artifact(path: Path) -> Any:
        return SimpleNamespace(path=str(path), uri=f"s3://bucket/{path.name}")

    validate.python_func(
        validation={"skew": CONFIG},
        features={"history_length": LENGTH},
        snapshot=artifact(snapshot),
        validation_report=artifact(report),
    )
    said = capsys.readouterr().out
    assert "[kuberec:note] validate feature skew: 1 of 30 compared rows are skew: 3.333%" in said
    with pytest.raises(SystemExit) as ended:
        gate.python_func(name="validate-gate", report=artifact(report))
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "gate 'features.skew' failed" in said
    assert "0.03333  (limit < 0.001, of 30 compared)" in said
    assert "order" in said
