"""Paths that Triton's Python backend can pass through a shell.

It starts its stub processes with `bash -c` and unquoted paths of the model repository and of the
backend folder (python_backend, stub_launcher.cc, StubLauncher::Launch): a space or a `$` in one
of them breaks the command. Such paths get a link in a private folder of this user. The folder is
named by the repository, so that another command finds the server that was started with it.
"""

import hashlib
import os
import re
import stat
from pathlib import Path

from recommender.errors import KuberecError

_PLAIN = re.compile(r"[A-Za-z0-9_./+@%,:=-]+")
# Not tempfile.gettempdir(): TMPDIR may differ between the commands that start and stop a server.
_TEMPORARY = Path("/tmp")
_REPOSITORY, _BACKENDS = "repository", "backends"


class PathNotPlain(KuberecError):
    """A path with characters that Triton cannot take, and no link could be made to it."""


def is_plain(path: Path) -> bool:
    """Whether a shell reads `path` as one word that stands for itself."""
    return _PLAIN.fullmatch(str(path)) is not None


def repository_argument(repository: Path) -> Path:
    """How a server on `repository` (resolved) names it in its command line; makes nothing."""
    return repository if is_plain(repository) else _folder(repository) / _REPOSITORY


def make_plain(repository: Path, backends: Path) -> tuple[Path, Path]:
    """Names of both folders (resolved) for one server: themselves, or links made here.

    Raises:
        PathNotPlain: no link can be made, or another user has taken its place.
    """
    names = {_REPOSITORY: repository, _BACKENDS: backends}
    folder = _folder(repository)
    plain = {}
    for name, path in names.items():
        plain[name] = path if is_plain(path) else folder / name
        if plain[name] != path:
            _link(folder, name, path)
    return plain[_REPOSITORY], plain[_BACKENDS]


def remove_links(repository: Path) -> None:
    """Remove what `make_plain` made for a server on `repository`; does nothing if it is gone."""
    folder = _folder(repository)
    if not _is_ours(folder):
        return
    for name in (_REPOSITORY, _BACKENDS):
        (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:
        return  # holds something else: not ours to delete


def _folder(repository: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(repository)).hexdigest()[:16]
    return _TEMPORARY / f"kuberec-{os.getuid()}-{digest}"


def _link(folder: Path, name: str, target: Path) -> None:
    link = folder / name
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if not _is_ours(folder):
            raise PathNotPlain(f"'{folder}' is not private to this user: delete it, or {_advice()}")
        if link.is_symlink() and link.readlink() == target:
            return
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    except OSError as error:
        raise PathNotPlain(
            f"Triton cannot load from '{target}' because of a space or another special character "
            f"in it, and no link to it could be made ({error}): {_advice()}"
        ) from error


def _advice() -> str:
    return "use folders of plain names for KUBEREC_HOME and --runs"


def _is_ours(folder: Path) -> bool:
    """A real folder of this user that nobody else can write to: its links can be trusted."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    private = not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and private
