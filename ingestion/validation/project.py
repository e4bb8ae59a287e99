"""The Great Expectations project of a source: stores that stay, and Data Docs over its runs.

A project lives on under the state folder, one run at a time; the report carries a copy of its
site. A project that a killed run left unreadable is begun anew: it has no data but its history.
Suites and definitions that it left cut (GX writes them in place) go alone: a run writes its own.
"""

import contextlib
import fcntl
import io
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ibis.expr.types as ir

from recommender.files import ensure_writable, read_json

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when GX is imported, below
SITE = "data_docs"
EXAMINED = 50  # unexpected values that a result holds
_REMOTE_IMAGE = re.compile(r"https://great-expectations-web-assets[^\"'\s)]*")


class Project:
    """A file context with one site; `run` adds results to both."""

    def __init__(self, folder: Path) -> None:
        self.folder = ensure_writable(Path(folder))
        _remove_cut(self.folder / "gx")
        try:
            self._context = self._open()
        except Exception:  # whatever GX stumbles over
            shutil.rmtree(self.folder / "gx", ignore_errors=True)
            shutil.rmtree(self.folder / SITE, ignore_errors=True)
            self._context = self._open()

    def _open(self) -> Any:
        import great_expectations as gx

        import ingestion.validation.gx_ibis.datasource  # noqa: F401  # a type that files name

        context: Any = gx.get_context(mode="file", project_root_dir=self.folder)
        context.variables.progress_bars = {"globally": False}
        site: Any = {
            "class_name": "SiteBuilder",
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                # Relative to gx/: a folder may be renamed when it is complete.
                "base_directory": f"../{SITE}",
            },
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "show_how_to_buttons": False,
        }
        for name in context.get_site_names():
            if name != SITE:
                context.delete_data_docs_site(name)
        if SITE not in context.get_site_names():
            context.add_data_docs_site(SITE, site)
        return context

    def run(
        self, source: str, tables: Mapping[str, ir.Table], suites: Mapping[str, list[Any]], at: Any
    ) -> dict[str, dict[str, Any]]:
        """Validate every table by the suite of its name; results by table and name of the check.

        Args:
            source: name of the data source.
            suites: ingestion.validation.suites.Named by table.
            at: time of the run.
        """
        import great_expectations as gx
        from great_expectations.core.run_identifier import RunIdentifier

        context, run_id = (
            self._context,
            RunIdentifier(run_name=f"{at:%Y-%m-%d %H.%M.%S}", run_time=at),
        )
        data = context.data_sources.add_or_update_ibis(source)
        found: dict[str, dict[str, Any]] = {}
        assets = {table: data.asset(table, rows) for table, rows in tables.items()}
        for table, checks in suites.items():
            for check in checks:
                check.expectation.meta = {"name": check.name}
                limit = check.limit.replace("<=", "≤").replace(">=", "≥")  # it goes into HTML
                check.expectation.description = f"{check.name}: {limit}"
                check.expectation.severity = check.severity
            # All at once: a suite that is stored is written anew with every expectation added.
            expectations = [check.expectation for check in checks]
            suite = context.suites.add_or_update(
                gx.ExpectationSuite(name=table, expectations=expectations)
            )
            batch = assets[table].add_batch_definition(table)
            definition = context.validation_definitions.add_or_update(
                gx.ValidationDefinition(name=table, data=batch, suite=suite)
            )
            results = definition.run(
                run_id=run_id,
                result_format={"result_format": "BASIC", "partial_unexpected_count": EXAMINED},
            )
            found[table] = {
                result.expectation_config.meta["name"]: result for result in results.results
            }
        return found

    def publish(self, keep: int) -> None:
        """Build the pages of the last run, and forget all but the last `keep` runs."""
        store = self._context.validation_results_store
        keys = sorted(store.list_keys(), key=lambda key: key.run_id.run_time)
        times = sorted({key.run_id.run_time for key in keys})
        old = set(times[:-keep])
        for key in keys:
            if key.run_id.run_time in old:
                store.remove_key(key)
                self._forget_page(key)
        new = [key for key in keys if key.run_id.run_time == times[-1]]
        suites = [key.expectation_suite_identifier for key in new]
        self._context.build_data_docs(resource_identifiers=[*new, *suites])
        _keep_to_itself(self.folder / SITE)

    def _forget_page(self, key: Any) -> None:
        run = self.folder / SITE / "validations" / Path(*key.to_tuple()[:-1])
        shutil.rmtree(run, ignore_errors=True)
        with contextlib.suppress(OSError):  # other runs of that name
            run.parent.rmdir()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process validates the same source."""
    with (ensure_writable(folder) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_cut(project: Path) -> None:
    for name in ("expectations", "validation_definitions"):
        for path in (project / name).glob("*.json"):
            try:
                read_json(path)
            except ValueError:  # JSON or UTF-8 that ends in the middle
                path.unlink()


def _keep_to_itself(site: Path) -> None:
    """Take the vendor's images, whose address reports every view with an id, from the site."""
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        up = "../" * (len(page.relative_to(site).parts) - 1)
        cleaned = _REMOTE_IMAGE.sub(f"{up}static/images/logo-long.png", text)
        if cleaned != text:
            page.write_text(cleaned, "utf-8")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """GX's progress bars and notices are no part of our output."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
