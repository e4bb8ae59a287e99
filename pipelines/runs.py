"""The folder of runs: one folder a run with its config, log, steps and report."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recommender.errors import KuberecError
from recommender.files import ensure_writable, process_exists, read_json, write_json

RUNNING, SUCCEEDED, FAILED, KILLED = "running", "succeeded", "failed", "killed"


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def log(self) -> Path:
        return self.folder / "run.log"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def card(self) -> Path:
        return self.folder / "MODEL_CARD.md"

    @property
    def rollout(self) -> Path:
        return self.folder / "rollout.html"

    @property
    def compression(self) -> Path:
        return self.folder / "compression.html"

    @property
    def summary(self) -> Path:
        return self.folder / "summary.json"

    def record(self) -> dict[str, Any]:
        """What run.json says; a run that says `running` without a living process was killed."""
        content: dict[str, Any] = read_json(self.folder / "run.json")
        if content["status"] == RUNNING and not process_exists(content["pid"]):
            content["status"] = KILLED
        return content

    def update(self, **fields: Any) -> None:
        path = self.folder / "run.json"
        write_json(path, (read_json(path) if path.exists() else {}) | fields)

    def finish(self, status: str) -> None:
        """Note the end and the seconds since the start."""
        now = datetime.now(UTC)
        started = datetime.fromisoformat(self.record()["started"])
        self.update(
            status=status,
            finished=now.isoformat(),
            seconds=round((now - started).total_seconds(), 1),
        )


def new_run(root: Path, name: str, config_text: str) -> Run:
    """Make the folder of a new run, `<UTC time>-<name>`, and put its config there."""
    ensure_writable(root)
    moment = datetime.now(UTC)
    stem = f"{moment:%Y%m%d-%H%M%S}-{name}"
    for attempt in range(100):  # two runs may start within one second
        folder = root / (stem if not attempt else f"{stem}-{attempt}")
        try:
            folder.mkdir()
            break
        except FileExistsError:
            continue
    run = Run(folder)
    (folder / "config.yaml").write_text(config_text, encoding="utf-8")
    run.update(name=name, status=RUNNING, pid=os.getpid(), started=moment.isoformat())
    return run


def list_runs(root: Path) -> Iterator[Run]:
    """The runs below `root`, newest first."""
    if root.is_dir():
        for folder in sorted(root.iterdir(), reverse=True):
            if (folder / "run.json").is_file():
                yield Run(folder)


def shown(path: Path) -> str:
    """A path as short as it can be told from here."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def card_of(root: Path, run_id: str | None = None) -> str:
    """The model card of a run below `root`, or of the newest run that has one, as Markdown.

    Raises:
        KuberecError: there is no such run, or it has no card.
    """
    if run_id:
        found = Run(root / run_id)
        if not (found.folder / "run.json").is_file():
            raise KuberecError(f"there is no run '{run_id}' in '{root}'; kuberec runs lists them")
        if not found.card.is_file():
            raise KuberecError(
                f"run '{run_id}' has no {found.card.name}: a run writes one as its last step, "
                f"and it is {found.record()['status']}"
            )
        return found.card.read_text(encoding="utf-8")
    for run in list_runs(root):
        if run.card.is_file():
            return run.card.read_text(encoding="utf-8")
    raise KuberecError(f"no run in '{root}' has a MODEL_CARD.md: kuberec run CONFIG makes one")
