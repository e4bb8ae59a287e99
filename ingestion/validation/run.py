"""The gate on a snapshot: Great Expectations suites, Data Docs, and validation.json."""

import contextlib
import io
import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from ingestion.errors import ValidationFailed
from ingestion.validation.settings import ValidationConfig
from recommender import schema
from recommender.errors import Check, KuberecError
from recommender.files import atomic_directory, write_json

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when GX is imported, below
_SAMPLES = 5  # different ones, of the first _EXAMINED
_EXAMINED = 50
_REMOTE_IMAGE = re.compile(r"https://great-expectations-web-assets[^\"'\s)]*")
_SITE = "data_docs"


def validate(snapshot_dir: Path, config: ValidationConfig, out_dir: Path) -> dict[str, Any]:
    """Check a snapshot; write validation.json, data_docs/ and the GX project gx/ into `out_dir`.

    Returns:
        The content of validation.json: {"success", "data_docs", "expectations": one dict each with
        name, table, expectation, column, limit, observed, unexpected_count, samples, success,
        severity, error}.

    Raises:
        ValidationFailed: an expectation that is not `warn_only` failed; everything is on disk.
        KuberecError: `warn_only` names a check that is not there.
    """
    from ingestion.validation.suites import suites

    named = suites(config, datetime.now(UTC))
    names = {check.name for checks in named.values() for check in checks}
    if unknown := sorted(set(config.warn_only) - names):
        raise KuberecError(
            f"validation.warn_only: no check '{unknown[0]}'; there are {', '.join(sorted(names))}"
        )
    frames = _frames(snapshot_dir)
    with atomic_directory(out_dir) as draft, _quiet():
        context = _context(draft)
        source = context.data_sources.add_or_update_pandas("snapshot")
        rows = []
        for table, checks in named.items():
            result = _run(context, source, table, frames[table], checks, config.warn_only)
            rows += [_row(table, check, result[check.name]) for check in checks]
        context.build_data_docs()
        _keep_to_itself(draft / _SITE)
        report = {
            "success": not any(_stops(row) for row in rows),
            "data_docs": f"{_SITE}/index.html",
            "expectations": rows,
        }
        write_json(draft / "validation.json", report)
    if not report["success"]:
        raise ValidationFailed(_message(rows, Path(out_dir)))
    return report


def _frames(snapshot: Path) -> dict[str, pd.DataFrame]:
    """The tables as GX takes them, times without a zone, and the ids that have no counterpart."""
    from ingestion.validation.suites import ORPHAN_ITEM, ORPHAN_USER

    frames = {}
    for table in schema.TABLES:
        frames[table] = pq.read_table(schema.table_path(snapshot, table)).to_pandas()
    events = frames["events"]
    if isinstance(events.get(schema.TIMESTAMP, pd.Series()).dtype, pd.DatetimeTZDtype):
        events[schema.TIMESTAMP] = events[schema.TIMESTAMP].dt.tz_convert(None)
    for orphan, table, key in (
        (ORPHAN_ITEM, "items", schema.ITEM_ID),
        (ORPHAN_USER, "users", schema.USER_ID),
    ):
        if key in events and key in frames[table]:
            events[orphan] = events[key].where(~events[key].isin(frames[table][key]), None)
    return frames


def _context(folder: Path) -> Any:
    import great_expectations as gx

    context = gx.get_context(mode="file", project_root_dir=folder)
    for name in list(context.get_site_names()):
        context.delete_data_docs_site(name)
    site: Any = {
        "class_name": "SiteBuilder",
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            # Relative to gx/: the folder is renamed when it is complete.
            "base_directory": f"../{_SITE}",
        },
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "show_how_to_buttons": False,
    }
    context.add_data_docs_site(_SITE, site)
    return context


def _run(
    context: Any, source: Any, table: str, frame: pd.DataFrame, checks: Any, warn_only: list[str]
) -> dict[str, Any]:
    """GX's results of one table by check name."""
    import great_expectations as gx

    suite = context.suites.add_or_update(gx.ExpectationSuite(name=table))
    for check in checks:
        expectation = check.expectation
        expectation.meta = {"name": check.name}
        expectation.severity = "warning" if check.name in warn_only else "critical"
        suite.expectations.append(expectation)
    suite.save()
    batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe(table)
    definition = context.validation_definitions.add_or_update(
        gx.ValidationDefinition(name=table, data=batch, suite=suite)
    )
    checkpoint = context.checkpoints.add_or_update(
        gx.Checkpoint(
            name=table,
            validation_definitions=[definition],
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": _EXAMINED},
        )
    )
    outcome = checkpoint.run(batch_parameters={"dataframe": frame})
    (validated,) = outcome.run_results.values()
    return {result.expectation_config.meta["name"]: result for result in validated.results}


def _keep_to_itself(site: Path) -> None:
    """Take the vendor's images, whose address reports every view with an id, from the site."""
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        text = _REMOTE_IMAGE.sub(f"{up}static/images/logo-long.png", page.read_text("utf-8"))
        page.write_text(text, "utf-8")


def _row(table: str, check: Any, result: Any) -> dict[str, Any]:
    found = result.result or {}
    examined = [_plain(value) for value in found.get("partial_unexpected_list") or []]
    samples = list({str(value): value for value in examined}.values())[:_SAMPLES]
    return {
        "name": check.name,
        "table": table,
        "expectation": result.expectation_config.type,
        "column": check.column,
        "limit": check.limit,
        "observed": _plain(found.get("observed_value")),
        "unexpected_count": int(found.get("unexpected_count") or 0),
        "samples": samples,
        "success": bool(result.success),
        "severity": str(getattr(check.expectation.severity, "value", check.expectation.severity)),
        "error": _error(result.exception_info),
    }


def _error(info: Any) -> str:
    """What an expectation stumbled over, such as a column that is not there; else ""."""
    if not info:
        return ""
    entries = [info] if "raised_exception" in info else list(info.values())
    messages = [
        entry.get("exception_message") or "" for entry in entries if isinstance(entry, dict)
    ]
    return next(filter(None, messages), "")


def _plain(value: Any) -> Any:
    """For JSON: numbers and texts as they are, containers by part, the rest as text."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):  # of numpy
        value = value.item()
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def _stops(row: dict[str, Any]) -> bool:
    return not row["success"] and row["severity"] == "critical"


def as_check(row: dict[str, Any]) -> Check:
    """An expectation of validation.json as a gate shows it; one that only warns passes."""
    broken = row["unexpected_count"]
    found = f"{broken:,} values break it" if broken else str(row["observed"])
    value = row["error"].splitlines()[0] if row["error"] else found
    warns = "" if row["success"] or _stops(row) else " (only warned of)"
    return Check(f"{row['name']}{warns}", value, str(row["limit"]), not _stops(row))


def _message(rows: list[dict[str, Any]], out_dir: Path) -> str:
    stopping = [row for row in rows if _stops(row)]
    lines = [f"validation failed: {len(stopping)} of {len(rows)} expectations"]
    for row in stopping:
        column = f" column '{row['column']}'" if row["column"] else ""
        what = (
            f"  {row['name']} ({row['expectation']}): {row['table']}{column}, limit {row['limit']}"
        )
        if row["error"]:
            lines.append(f"{what}: {row['error'].splitlines()[0]}")
        elif row["unexpected_count"]:
            samples = ", ".join(repr(sample) for sample in row["samples"])
            lines.append(f"{what}: {row['unexpected_count']:,} values break it, such as {samples}")
        else:
            lines.append(f"{what}: found {row['observed']}")
    lines.append(
        f"see {out_dir / _SITE / 'index.html'}; correct the data, move the limit in the "
        "`validation` section, or name the check in validation.warn_only"
    )
    return "\n".join(lines)


@contextlib.contextmanager
def _quiet() -> Any:
    """GX's progress bars and notices are no part of our output."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
