"""The check of `validation.skew`, a part of the step `validate`: before anything is trained."""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from feature_repo.replay.replay import replay
from feature_repo.replay.report import Report, skew_check
from feature_repo.replay.snapshot import snapshot_events
from ingestion.validation.skew_settings import SkewConfig
from recommender.errors import Check, KuberecError, require
from recommender.files import atomic_file, write_json
from recommender.progress import Progress
from recommender.pseudonyms import read_key
from reporting.skew import headline, markdown

FILE = "skew.json"  # in the validation report; skew.md beside it is for people


class Skew(NamedTuple):
    """What was found, in a sentence; where there is enough to tell, the check and its failure."""

    said: str
    check: Check | None = None
    failure: KuberecError | None = None


def check_skew(
    config: SkewConfig,
    snapshot: Path,
    history_length: int,
    home: Path,
    out: Path,
    progress: Progress,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Skew:
    """Replay the log's latest days on a snapshot; write `FILE` and skew.md into the folder `out`.

    Without a log, or with too few rows to compare, nothing is concluded, and that is said.

    Args:
        history_length: `features.history_length`.
        home: the state home.

    Raises:
        KeyMissing: the key of the log's pseudonyms is not in the environment.
    """
    assert config.log is not None
    log = home / config.log
    key = read_key(config.user_key_env, "validation.skew.user_key_env")
    if not log.is_dir():
        return _nothing(out, f"feature skew: not known, there is no request log '{log}'")
    with tempfile.TemporaryDirectory() as work:
        progress(0, 0, "feature skew")
        events = snapshot_events(snapshot, history_length, Path(work))
        report = replay(
            log,
            events,
            key,
            since=now() - timedelta(days=config.since_days),
            allow_lag_s=config.allow_lag_h * 3600,
            progress=lambda done, total, message: progress(done, total, f"feature skew {message}"),
        )
    if report.compared < config.min_rows:
        return _nothing(
            out,
            f"feature skew: not known, {report.compared:,} of {report.rows:,} logged rows of "
            f"{config.since_days:g} days can be compared, and {config.min_rows:,} are needed "
            "(validation.skew.min_rows)",
            report,
        )
    said = f"feature skew: {headline(report, config.max_share)}"
    with atomic_file(out / "skew.md") as draft:
        draft.write_text(markdown(report, config.max_share), encoding="utf-8")
    write_json(out / FILE, _content(said, report))
    check = skew_check(report, config.max_share)
    return Skew(said, check, _failure(check, report))


def _failure(check: Check, report: Report) -> KuberecError | None:
    causes = [
        Check(f"{cause}: rows", rows, "0", False)
        for cause, rows in report.causes.items()
        if cause.kind == "skew"
    ]
    try:
        require("features.skew", [check, *(causes if not check.passed else [])])
    except KuberecError as error:
        return error
    return None


def _nothing(out: Path, said: str, report: Report | None = None) -> Skew:
    write_json(out / FILE, _content(said, report))
    return Skew(said)


def _content(said: str, report: Report | None) -> dict[str, Any]:
    return {"said": said, "report": report.as_dict() if report else None}
