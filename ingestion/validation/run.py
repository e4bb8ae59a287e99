"""The gate on a snapshot: Great Expectations suites, Data Docs, profile, and validation.json."""

import contextlib
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from ingestion.engines.open import open_engine
from ingestion.errors import ValidationFailed
from ingestion.sources import folder_name
from ingestion.validation import drift, results
from ingestion.validation.profile import VERSION, profile
from ingestion.validation.project import SITE, Project, alone, quiet
from ingestion.validation.quarantine import quarantined
from ingestion.validation.settings import ValidationConfig
from ingestion.validation.snapshot_measures import own_measures
from recommender import schema
from recommender.engines.settings import EngineConfig
from recommender.errors import KuberecError
from recommender.files import atomic_directory, read_json, write_json

ACCEPTED = "accepted.json"


def state_folder(home: Path, source: str) -> Path:
    """Where validation keeps what it knows of a source, under the state folder `home`."""
    return home / "validation" / folder_name(source)


def validate(
    snapshot_dir: Path, config: ValidationConfig, out_dir: Path, state: Path | None = None
) -> dict[str, Any]:
    """Check a snapshot; write validation.json, profile.json and data_docs/ into `out_dir`.

    Everything is computed by the engine that ingested the snapshot, from its files.

    Args:
        state: folder of this source's earlier runs: the profile of the last accepted snapshot, and
            the GX project whose history Data Docs show. None: no earlier runs, nothing is kept.

    Returns:
        The content of validation.json: {"success", "data_docs", "drift": {"compared_with", "said"},
        "expectations": one dict each with name, table, expectation, column, limit, observed, said,
        unexpected_count, samples, success, severity, error}.

    Raises:
        ValidationFailed: a critical expectation failed; everything is on disk.
        KuberecError: `warn_only` or `severities` names a check that is not there.
    """
    snapshot_dir, out_dir = Path(snapshot_dir), Path(out_dir)
    accepted = None if state is None else state / ACCEPTED
    with alone(state) if state is not None else contextlib.nullcontext():
        with atomic_directory(out_dir) as draft:
            report = _validate(snapshot_dir, config, draft, state)
            write_json(draft / "validation.json", report)
        if not report["success"]:
            raise ValidationFailed(results.message(report["expectations"], out_dir, accepted))
        if accepted is not None:
            found = {"profile": read_json(out_dir / "profile.json"), "at": report["at"]}
            write_json(accepted, found)
    return report


def _validate(
    snapshot: Path, config: ValidationConfig, draft: Path, state: Path | None
) -> dict[str, Any]:
    summary = _summary(snapshot)
    work = draft / "work"
    work.mkdir()
    engine_config = EngineConfig.model_validate(summary.get("source", {}).get("engine", {}))
    engine = open_engine(engine_config, work)
    try:
        tables = {
            table: engine.connection.read_parquet(schema.table_path(snapshot, table))
            for table in schema.TABLES
        }
        found = profile(tables, engine_config.name) | {"user_key": summary.get("user_key")}
        write_json(draft / "profile.json", found)
        rejects = schema.table_path(snapshot, "rejects")
        cut = []
        if rejects.is_file():
            cut = _cut_lines(engine.connection.read_parquet(rejects), summary)
        measures = own_measures(found, summary, cut, config.drift)
        compared = _accepted(state, config)
        if compared is not None:
            left_out = quarantined(summary.get("rejected", {}).get("events", {}))
            measures += drift.measures(found, compared["profile"], config.drift, left_out)
        rows, at = _run(config, draft, state, tables, measures, summary)
    finally:
        engine.close()
        shutil.rmtree(work, ignore_errors=True)
    return {
        "success": not any(results.stops(row) for row in rows),
        "at": at.isoformat(timespec="seconds"),
        "data_docs": f"{SITE}/index.html",
        "drift": {
            "compared_with": None if compared is None else compared["at"],
            "said": _comparison(compared, config),
        },
        "expectations": rows,
    }


def _run(
    config: ValidationConfig,
    draft: Path,
    state: Path | None,
    tables: Mapping[str, ir.Table],
    measures: list[drift.Measure],
    summary: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], datetime]:
    """Rows of every expectation, and the time of the run."""
    with quiet():
        from ingestion.validation.measured import measured
        from ingestion.validation.references import SOURCE
        from ingestion.validation.suites import MEASURES, suites

        at = datetime.now(UTC)
        refused = summary.get("rejected", {}).get("events", {}).get("unknown item", 0)
        named = suites(config, at, tables, measures, refused)
        _check_names(config, [check.name for checks in named.values() for check in checks])
        project = Project(state if state is not None else draft)
        batches = {**tables, MEASURES: measured(measures)}
        found = project.run(SOURCE, batches, named, at)
        project.publish(config.history)
        if state is not None:
            shutil.copytree(project.folder / SITE, draft / SITE)
    rows = [
        results.as_row(table, check, found[table][check.name])
        for table, checks in named.items()
        for check in checks
    ]
    return rows, at


def _check_names(config: ValidationConfig, names: list[str]) -> None:
    """Drift has its checks only where there is something to compare with: those always pass."""
    for key, chosen in (("warn_only", config.warn_only), ("severities", config.severities)):
        unknown = sorted(name for name in set(chosen) - set(names) if not name.startswith("drift."))
        if unknown:
            raise KuberecError(
                f"validation.{key}: no check '{unknown[0]}'; there are {', '.join(sorted(names))}"
            )


def _summary(snapshot: Path) -> dict[str, Any]:
    path = snapshot / "snapshot.json"
    return dict(read_json(path)) if path.is_file() else {}


def _cut_lines(rejects: ir.Table, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The malformed lines with which files end, by table and position."""
    found = []
    for table, positions in summary.get("last_rows", {}).items():
        ends = ibis.memtable({"position": positions}, schema={"position": "int64"})
        malformed = rejects.filter(
            rejects["table"] == table, rejects["reason"].startswith("malformed line")
        )
        rows = malformed.semi_join(ends, "position").order_by("position")
        found += rows.select("table", "file", "row").to_pyarrow().to_pylist()
    return found


def _accepted(state: Path | None, config: ValidationConfig) -> dict[str, Any] | None:
    """What the last accepted snapshot looked like; None if there is none, or of another version."""
    if state is None or not config.drift.enabled or not (state / ACCEPTED).is_file():
        return None
    try:
        found = read_json(state / ACCEPTED)
        return found if found.get("profile", {}).get("version") == VERSION else None
    except (ValueError, AttributeError) as error:
        raise KuberecError(
            f"'{state / ACCEPTED}' is no profile of a snapshot ({error}); delete it, and the next "
            "run has nothing to be compared with, as the first one"
        ) from error


def _comparison(compared: dict[str, Any] | None, config: ValidationConfig) -> str:
    if compared is not None:
        return f"compared with the snapshot accepted at {compared['at']}"
    if not config.drift.enabled:
        return "drift not looked at: validation.drift.enabled is false"
    return "drift: nothing to compare with, no earlier snapshot of this source was accepted"
