"""Run the pipeline on this machine: kfp.local with a run folder, a cache and a live view."""

import contextlib
import fcntl
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from components.image import IMAGE_VARIABLE
from components.step import HOME_VARIABLE, RUN_PID_VARIABLE
from components.verdict import REPORT
from ingestion.sources import SourceConfig
from pipelines.config import RunConfig
from pipelines.progress import RunView
from pipelines.runs import FAILED, SUCCEEDED, Run, new_run, shown
from pipelines.screen import show_ledger
from recommender.errors import KuberecError
from recommender.files import ensure_writable, fingerprint, read_json, write_json


class RunFailed(KuberecError):
    """A step of the run did not succeed."""


def run_locally(
    config: RunConfig,
    runs: Path,
    home: Path,
    console: Console,
    *,
    cache: bool = True,
    verbose: bool = False,
) -> Run:
    """Run the whole pipeline; returns the finished run.

    Args:
        config: a validated run.
        runs: the folder that gets the run's folder.
        home: the folder of caches, feature store and serving state.
        cache: reuse the results of steps whose inputs and code have not changed.
        verbose: show the steps' whole output rather than one line a step.

    Raises:
        RunFailed: with the failing step's message and the path of the log; or another run is
            under way.
        KuberecError: a folder cannot be written, a source file is missing, a port is taken.
    """
    ensure_writable(runs)
    with alone(ensure_writable(home)):
        return _run(config, runs, home, console, cache=cache, verbose=verbose)


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """Refuse a second run in one home: both would write to its feature store and checkpoints."""
    with (home / "run.lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise RunFailed(
                f"another run (pid {stream.read() or 'unknown'}) uses '{home}'; wait for its end, "
                "or give this one a home of its own: KUBEREC_HOME=/another/folder"
            ) from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield  # the system drops the lock with the process, however that ends


def _run(
    config: RunConfig, runs: Path, home: Path, console: Console, *, cache: bool, verbose: bool
) -> Run:
    from serving.embedded.endpoint import EmbeddedEndpoint
    from serving.embedded.gateway import envoy_binary
    from serving.triton.environment import find_environment

    # What is missing or taken is said before anything runs.
    find_environment()
    envoy_binary()
    EmbeddedEndpoint(home, config.serving).check_ports()
    source = _source_fingerprint(config.source, home, console)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    run = new_run(runs.resolve(), config.name, text)
    console.print(Text.assemble("run ", (run.id, "bold"), f", log in {shown(run.log)}"))
    arguments = config.sections() | {"source_fingerprint": source}
    os.environ[HOME_VARIABLE] = str(home.resolve())
    os.environ[RUN_PID_VARIABLE] = str(os.getpid())
    os.environ["PYTHONUNBUFFERED"] = "1"  # a step's progress is seen as it happens
    os.environ["MPLCONFIGDIR"] = str(home / "cache" / "matplotlib")  # else it writes to ~
    view = RunView(console, run.log, verbose=verbose)
    try:
        with view:
            _execute(run, home, arguments, cache, view)
    except (Exception, KeyboardInterrupt) as error:
        run.finish(FAILED)
        if isinstance(error, KeyboardInterrupt):
            raise
        message = "\n".join(view.errors) or (
            f"{view.defect() or error}\nthis is a defect of the program, not of your input; "
            "the log has the whole of it"
        )
        ends = [f"run {run.id} failed; log: {shown(run.log)}"]
        if rows := _collect_compression(run, view.errors):
            console.print()
            show_ledger(rows, console)
            ends.append(f"the compression, with plot and slices: {shown(run.compression)}")
        if _collect_rollout(run):
            ends.append(f"the rollout over time: {shown(run.rollout)}")
        raise RunFailed("\n".join([message, "", *ends])) from error
    run.finish(SUCCEEDED)
    return run


def _source_fingerprint(source: SourceConfig, home: Path, console: Console) -> str:
    """Of what the snapshot depends on beside the config; files are downloaded for it, if need be.

    Raises:
        KuberecError: a source is missing, or cannot be had; the key of pseudonyms is missing.
    """
    from ingestion.privacy.erased import read_erased
    from ingestion.privacy.pseudonyms import key_id, user_key
    from ingestion.reading.download import fetch
    from ingestion.reading.landing import source_fingerprint

    key = user_key(source.privacy)
    with console.status("source") as status:
        say = status.update if console.is_terminal else console.print
        placed = fetch(source, home / "data", lambda text: say(Text(text)))
        files = source_fingerprint(placed)
    erased = read_erased(home / "ingest" / source.slug).fingerprint
    return fingerprint([files, erased, None if key is None else key_id(key)])


def _execute(run: Run, home: Path, arguments: dict[str, Any], cache: bool, view: RunView) -> None:
    from kfp import local

    handler = logging.StreamHandler(view)  # what the runner says between its tasks
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(view), contextlib.redirect_stderr(view), _quoted_python():
            os.environ.pop(IMAGE_VARIABLE, None)  # here the code is the sources, not an image
            from pipelines.recommender import recommender

            workspace = home / "tmp" / run.id  # removed by the runner
            workspace.mkdir(parents=True)
            local.init(
                local.SubprocessRunner(use_venv=False),
                pipeline_root=str(run.folder / "steps"),
                workspace_root=str(workspace),
                enable_caching=cache,
                cache_root=str(home / "cache" / "steps"),
            )
            outputs = recommender(**arguments).outputs
    finally:
        logging.getLogger().removeHandler(handler)
    _collect(run, outputs)


@contextlib.contextmanager
def _quoted_python() -> Iterator[None]:
    """kfp's runner puts sys.executable into a shell script as it is; a folder may have spaces."""
    plain = sys.executable
    sys.executable = shlex.quote(plain)
    try:
        yield
    finally:
        sys.executable = plain


def _collect(run: Run, outputs: dict[str, Any]) -> None:
    """Put the page, its Data Docs, the model card and the summary where a person looks."""
    summary = read_json(Path(outputs["summary"].path))
    data_docs = Path(summary["validation"]["data_docs"])
    link = run.folder / "data_docs"
    link.symlink_to(os.path.relpath(data_docs, run.folder))
    run.report.write_bytes(Path(outputs["page"].path).read_bytes())
    run.card.write_bytes(Path(outputs["model_card"].path).read_bytes())
    run.compression.write_bytes(Path(outputs["compression_page"].path).read_bytes())
    _collect_rollout(run)
    write_json(run.summary, summary)


def _collect_compression(run: Run, errors: list[str]) -> list[dict[str, Any]]:
    """Put its page there where its gate failed the run; the ledger's rows then, else none.

    The gate says where the report is, and the page lies beside it: in the folder of an earlier run
    where the cache had the step.
    """
    for line in errors:
        report = Path(line.removeprefix(REPORT))
        if line.startswith(REPORT) and report.name == "compression_report":
            run.compression.write_bytes((report.parent / "compression_page").read_bytes())
            rows: list[dict[str, Any]] = read_json(report)["rows"]
            return rows
    return []


def _collect_rollout(run: Run) -> bool:
    """Put the rollout's page there too, however it ended; whether there was one."""
    for name, target in (
        ("timeline_text", run.rollout.with_suffix(".md")),
        ("timeline", run.rollout),
    ):
        for found in run.folder.glob(f"steps/*/rollout/{name}"):
            target.write_bytes(found.read_bytes())
    return run.rollout.is_file()
