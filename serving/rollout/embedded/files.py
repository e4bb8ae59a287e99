"""Rollouts as a state home remembers them: a file each, a lock, and what an operator asks for."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from recommender.errors import KuberecError
from recommender.files import atomic_file, ensure_writable, read_json, write_json
from serving.process import ProcessRef, alive, this_process
from serving.rollout.record import Rollout, Wish, now
from serving.rollout.target import RolloutUnderWay

KEEP = 20  # rollouts, the current one counted


class RolloutFiles:
    """In `<state home>/serving`: rollouts/<id>.json, rollout.lock and rollout.request.

    The system drops the lock with the process that holds it.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "rollouts"
        self._root = root
        self._lock, self._wish = root / "rollout.lock", root / "rollout.request"
        self._depth = 0

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock; may be nested.

        Raises:
            RolloutUnderWay: another process, or another object of this one, holds it.
        """
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        ensure_writable(self._root)
        with self._lock.open("a+") as stream:
            try:
                fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RolloutUnderWay(
                    f"another rollout is under way ({self.holder() or 'it began just now'}); see "
                    "how it is doing: kuberec rollout status; end it: kuberec rollout abort"
                ) from None
            held = {"process": this_process().model_dump(), "since": now()}
            # Written whole, for those who read it without the lock; the lock is another file's.
            write_json(self._holder, held)
            self._depth = 1
            try:
                yield
            finally:
                self._depth = 0
                self._holder.unlink(missing_ok=True)

    @property
    def _holder(self) -> Path:
        return self._root / "rollout.holder"

    def holder(self) -> str | None:
        """The process that rolls out, in words; None: nobody does."""
        try:
            held = read_json(self._holder)
            process, since = ProcessRef.model_validate(held["process"]), held["since"]
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return f"pid {process.pid}, since {since}" if alive(process) else None

    def load(self) -> Rollout | None:
        """The latest.

        Raises:
            KuberecError: its file is not one of this version of kuberec.
        """
        newest = self._newest_first()
        return _read(newest[0]) if newest else None

    def history(self) -> list[Rollout]:
        """All there are, newest first.

        Raises:
            KuberecError: as `load`.
        """
        return [_read(path) for path in self._newest_first()]

    def save(self, rollout: Rollout) -> None:
        path = self.folder / f"{rollout.id}.json"
        new = not path.exists()
        write_json(path, rollout.model_dump(mode="json"))
        for old in self._newest_first()[KEEP:] if new else []:
            old.unlink(missing_ok=True)

    def requested(self) -> Wish | None:
        try:
            wish = self._wish.read_text().strip()
        except FileNotFoundError:
            return None
        return "promote" if wish == "promote" else "abort" if wish == "abort" else None

    def request(self, what: Wish | None) -> None:
        if what is None:
            self._wish.unlink(missing_ok=True)
            return
        with atomic_file(self._wish) as draft:
            draft.write_text(what)

    def _newest_first(self) -> list[Path]:
        """By the second that is in the name, and within it by the latest change."""
        files = [path for path in self.folder.glob("*.json") if not path.name.startswith(".")]
        return sorted(files, key=lambda path: (path.name[:15], path.stat().st_mtime_ns))[::-1]


def _read(path: Path) -> Rollout:
    try:
        return Rollout.model_validate(read_json(path))
    except (ValidationError, ValueError) as error:
        raise KuberecError(
            f"'{path}' is no rollout of this version of kuberec ({error}); what serves is not "
            "affected: delete the file"
        ) from error
