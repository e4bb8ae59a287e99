"""Artifacts are written whole or not at all."""

import os
import subprocess
import sys

import pytest

from recommender.errors import FolderNotWritable
from recommender.files import (
    atomic_directory,
    atomic_file,
    ensure_writable,
    fingerprint,
    sha256_tree,
    write_json,
)


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "artifact"
    with atomic_directory(target) as draft:
        (draft / "part").write_text("1")
        assert not target.exists()
    assert (target / "part").read_text() == "1"


def test_a_failed_write_leaves_the_old_artifact_and_no_draft(tmp_path):
    target = tmp_path / "artifact"
    with atomic_directory(target) as draft:
        (draft / "part").write_text("old")

    def fail() -> None:
        with atomic_directory(target) as draft:
            (draft / "part").write_text("new")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail()
    assert (target / "part").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "artifact"
    for names in (["a", "b"], ["c"]):
        with atomic_directory(target) as draft:
            for name in names:
                (draft / name).touch()
    assert list(sha256_tree(target)) == ["c"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_file_leaves_the_old_one(tmp_path):
    target = tmp_path / "file.json"
    write_json(target, {"a": 1})

    def fail() -> None:
        with atomic_file(target) as draft:
            draft.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail()
    assert '"a": 1' in target.read_text()
    assert list(tmp_path.iterdir()) == [target]


def test_drafts_of_killed_processes_are_removed_and_living_ones_are_not(tmp_path):
    target = tmp_path / "artifact"
    script = (
        "import os, sys, pathlib\n"
        "from recommender.files import atomic_directory\n"
        "with atomic_directory(pathlib.Path(sys.argv[1])) as draft:\n"
        "    (draft / 'half').touch(); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(target)])
    (dead,) = tmp_path.iterdir()
    assert dead.name.endswith(".partial")
    with atomic_directory(target) as mine, atomic_directory(target) as other:
        assert mine.is_dir()
        assert other.is_dir()
        assert not dead.exists()


def test_a_kill_between_the_two_renames_is_put_right(tmp_path):
    target = tmp_path / "artifact"
    with atomic_directory(target) as draft:
        (draft / "part").write_text("old")
    script = (
        "import os, sys, pathlib\n"
        "from recommender.files import atomic_directory\n"
        "rename = pathlib.Path.rename\n"
        "def once(self, other):\n"
        "    rename(self, other)\n"
        "    os.kill(os.getpid(), 9)\n"
        "with atomic_directory(pathlib.Path(sys.argv[1])):\n"
        "    pathlib.Path.rename = once\n"
    )
    subprocess.run([sys.executable, "-c", script, str(target)])
    assert not target.exists()
    with atomic_directory(target):
        assert (target / "part").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_written_is_named_with_a_way_out(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()  # root may write into read-only folders, but nobody below a file
    with pytest.raises(
        FolderNotWritable, match=r"cannot write to folder .*file.*choose another one"
    ):
        ensure_writable(blocked / "runs")


def test_fingerprints_see_content_and_not_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert len(fingerprint(os.sep)) == 64
