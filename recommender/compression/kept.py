"""Finished steps of a compression, kept so that one that was killed goes on behind them.

A folder holds those of one set of inputs: the full model, windows, settings of measuring, code. In
it each step has a folder named by itself and all steps before it, whole or not there. They stay
where a run was killed, or its budgets blown: then the steps that a new config begins with alike are
not taken again. They are removed once the budgets hold, and when other inputs come.
"""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from recommender.compression.candidate import Candidate, Form
from recommender.compression.quality import Gains
from recommender.compression.rankers import TORCH
from recommender.files import ensure_writable, fingerprint, read_json, write_json
from recommender.model import SequentialRecommender, load_model, save_model

RANKER, EXACT = "ranker.onnx", "ranker_fp32.onnx"
_FORM = TypeAdapter(Form)


@dataclass(frozen=True)
class Stage:
    """A candidate that is finished.

    Attributes:
        folder: ranker.onnx and ranker_fp32.onnx; or torch/, its model, where ONNX has no graph.
        row: of the ledger.
    """

    candidate: Candidate
    folder: Path
    gains: Gains
    row: dict[str, Any]

    @property
    def place(self) -> Path:
        """What answers (recommender.compression.rankers)."""
        return self.folder / TORCH if self.row["runtime"] == TORCH else self.folder / RANKER

    def save(self, vocabulary: list[str]) -> None:
        """Beside the graphs in `folder`."""
        (self.folder / "model").mkdir()
        save_model(self.candidate.model, vocabulary, self.folder / "model")
        form = _FORM.dump_python(self.candidate.form, mode="json")
        write_json(self.folder / "stage.json", {"row": self.row, "form": form})
        self.gains.save(self.folder / "gains.npz")

    @classmethod
    def load(cls, folder: Path, model: SequentialRecommender | None = None) -> "Stage":
        """`model`: the full model, if it is its stage."""
        kept = read_json(folder / "stage.json")
        candidate = Candidate(
            model or load_model(folder / "model"),
            _FORM.validate_python(kept["form"]),
            kept["row"]["curve"],
        )
        return cls(candidate, folder, Gains.load(folder / "gains.npz"), kept["row"])


def stage_name(steps: Sequence[BaseModel]) -> str:
    """The folder of the last of `steps`, by all of them; of none it is the full model's."""
    return fingerprint([step.model_dump(mode="json") for step in steps])[:16]


@contextlib.contextmanager
def kept_folder(root: Path | None, inputs: str) -> Iterator[Path]:
    """The folder of the stages of `inputs`, a fingerprint; of other inputs' those not in use go.

    Args:
        root: None: nothing is kept, stages are in a folder that is removed at the end. The same
            where another process is at work on the same inputs.
    """
    if root is None:
        with tempfile.TemporaryDirectory(prefix="compress-") as scratch:
            yield Path(scratch)
        return
    ensure_writable(root)
    own = root / inputs[:16]
    for lock in root.glob("*.lock"):
        if lock.stem != own.name:
            with _held(lock) as free:
                if free:
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)
    with _held(own.with_suffix(".lock")) as free:
        if free:
            own.mkdir(exist_ok=True)
            yield own
        else:
            with tempfile.TemporaryDirectory(dir=root, prefix="compress-") as scratch:
                yield Path(scratch)


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[bool]:
    """Whether the lock was free and is ours now; the system drops it with the process."""
    with lock.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
