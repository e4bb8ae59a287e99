"""`kuberec erase-user`: one user out of everything that this project keeps on this machine."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from ingestion.privacy.erased import read_erased, remember_erased
from ingestion.privacy.pseudonyms import pseudonym, read_key, user_key
from ingestion.sources import SourceConfig
from pipelines.erase.files import erase_folder, golden_with
from pipelines.erase.logs import log_folder, log_ids, log_keys, tell_other_keys
from pipelines.erase.needle import Needle
from pipelines.erase.online import erase_shared_store
from pipelines.erase.report import Report, counted
from recommender.errors import KuberecError
from recommender.files import read_json
from recommender.schema import USER_ID
from reporting.page import render
from serving.transformer.request_log.settings import RequestLogConfig
from serving.version import MANIFEST


def stored_ids(user_id: str, source: SourceConfig, old_keys: Sequence[str] = ()) -> list[str]:
    """How a user may be stored: the id as it is, and its pseudonyms.

    Args:
        old_keys: environment variables with keys of earlier.

    Raises:
        KuberecError: the id is blank; a key is missing.
    """
    if not user_id.strip():  # it would be found everywhere
        raise KuberecError("the user id is blank: give the id as the source has it")
    key = user_key(source.privacy)
    keys = [*([key] if key else []), *map(read_key, old_keys)]
    return [user_id, *(pseudonym(user_id, each) for each in keys)]


def erase_user(
    user_id: str,
    source: SourceConfig,
    *,
    home: Path,
    runs: Path,
    old_keys: Sequence[str] = (),
    dry_run: bool = False,
    request_log: RequestLogConfig | None = None,
) -> Report:
    """Erase a user from run folders, the state home and the online store, and look again.

    The user is remembered as erased before anything else, by a mark that does not tell the id, so
    that no ingestion brings the rows back. Killed at any time it can be run again.

    Args:
        user_id: as the source has it, also where pseudonyms are stored.
        home: state folder: increments, feature store, serving state, caches.
        runs: folder of runs; those of other sources, in which an id is somebody else's, are left.
        request_log: says where the log is, if not in `home`, and the key of its pseudonyms.

    Raises:
        KuberecError: the id is blank; a key of pseudonyms is missing.
    """
    report = Report(dry_run)
    request_log = request_log or RequestLogConfig()
    log = log_folder(request_log, home)
    keys = log_keys(request_log, log, old_keys)
    ids = stored_ids(user_id, source, old_keys)
    needle = Needle([*ids, *log_ids(ids, keys)])
    state = home / "ingest" / source.slug
    # Pseudonyms too: live events may name users by them.
    unknown = [each for each in needle.ids if each not in read_erased(state)]
    if not dry_run and unknown:
        remember_erased(state, unknown)
    columns = [
        table.columns[USER_ID] for table in source.tables().values() if USER_ID in table.columns
    ]
    folders = list(_runs_of(runs, source))
    histories = _histories([*folders, home], needle)
    # Runs, which may lie in the state home, one by one: an id is somebody else's in another source.
    skip = [home / "data", home / "cache" / "steps", runs.resolve()]
    for folder in folders:
        if erase_folder(folder, needle, report, columns, skip) and not dry_run:
            _render_again(folder)
    if home.is_dir():
        erase_folder(home, needle, report, columns, skip)
        _forget_steps(home, report)
    elsewhere = [log] if log.is_dir() and not log.is_relative_to(home) else []
    for folder in elsewhere:
        erase_folder(folder, needle, report, columns, skip)
    if keys:
        tell_other_keys(log, keys, report)
    erase_shared_store(home, needle, report)
    for root in dict.fromkeys([*folders, home]):
        for version, count in golden_with(root, histories):
            report.left(
                version,
                f"{counted(count, 'golden request')} with his history, without his id",
                "the version is sealed: replace it by a new one and remove it",
            )
    if not dry_run:
        _look_again([*folders, home, *elsewhere], needle, report, columns, skip)
    return report


def _runs_of(runs: Path, source: SourceConfig) -> Iterator[Path]:
    """Folders of runs of this source, and of those that do not say whose they are."""
    for folder in sorted(runs.resolve().iterdir()) if runs.is_dir() else ():
        if not folder.is_dir():
            continue
        try:
            config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
            if config["source"]["name"] != source.name:
                continue
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            pass
        yield folder


def _histories(folders: Sequence[Path], needle: Needle) -> set[tuple[str, ...]]:
    """The user's histories as training windows have them; looked for in golden requests."""
    found = set()
    for folder in folders:
        for path in folder.rglob("windows.parquet"):
            table = pq.read_table(
                path, columns=[USER_ID, "history"], filters=[(USER_ID, "in", needle.ids)]
            )
            found |= {tuple(each) for each in table["history"].to_pylist() if each}
    return found


def _render_again(run: Path) -> None:
    """The pages of a run, from a summary that no longer has the user among its examples."""
    for summary in (run / "summary.json", *run.glob("steps/*/report/summary")):
        pages = [run / "report.html"] if summary.parent == run else [summary.parent / "page"]
        for page in pages:
            if summary.is_file() and page.is_file():
                page.write_text(render(read_json(summary)), encoding="utf-8")


def _forget_steps(home: Path, report: Report) -> None:
    """Drop the runner's cache: a step that it takes from there would not read the data anew."""
    entries = sorted((home / "cache" / "steps").glob("*.json"))
    if not entries or not (report.found or report.dry):
        return
    report.erased(entries[0].parent, counted(len(entries), "cached step"), "dropped")
    if not report.dry:
        for entry in entries:
            entry.unlink(missing_ok=True)


def _look_again(
    roots: Sequence[Path],
    needle: Needle,
    report: Report,
    columns: Sequence[str],
    skip: Sequence[Path],
) -> None:
    """What a second look still finds was not erased."""
    second = Report(dry=True)
    for root in roots:
        if root.is_dir():
            erase_folder(root, needle, second, columns, skip)
    known = {each.place for each in report.found if each.left}
    for each in second.found:
        if each.place not in known:
            report.left(each.place, each.what, "still there: written meanwhile? run this again")


def model_versions(folders: Sequence[Path]) -> list[str]:
    """Versions that lie below `folders`: their weights were trained with the user's events."""
    found = {
        str(read_json(path).get("version", path.parent.name))
        for folder in folders
        for path in folder.rglob(MANIFEST)
    }
    return sorted(found)
