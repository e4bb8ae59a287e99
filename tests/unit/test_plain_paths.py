"""Names for Triton of folders whose paths a shell would take apart."""

from pathlib import Path

import pytest

from serving.triton import plain_paths
from serving.triton.plain_paths import (
    PathNotPlain,
    is_plain,
    make_plain,
    remove_links,
    repository_argument,
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(plain_paths, "_TEMPORARY", folder)
    return folder


def test_plain_paths_stay_as_they_are(temporary: Path) -> None:
    names = Path("/srv/a-b_c.d/v1"), Path("/srv/backends")
    assert make_plain(*names) == names
    assert repository_argument(names[0]) == names[0]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("character", [" ", "$", ";", "'", '"', "\n", "&", "(", "é"])
def test_others_get_links(tmp_path: Path, temporary: Path, character: str) -> None:
    repository, backends = tmp_path / f"a{character}b" / "v", tmp_path / f"a{character}b" / "k"
    repository.mkdir(parents=True)
    backends.mkdir()
    links = make_plain(repository, backends)
    assert all(is_plain(link) for link in links)
    assert [link.resolve() for link in links] == [repository, backends]
    assert links[0] == repository_argument(repository)
    assert links[0].parent.stat().st_mode & 0o777 == 0o700
    assert make_plain(repository, backends) == links
    moved = tmp_path / f"c{character}d"
    assert make_plain(repository, moved)[1].readlink() == moved
    remove_links(repository)
    remove_links(repository)
    assert list(temporary.iterdir()) == []


def test_a_link_that_others_could_change_is_refused(tmp_path: Path, temporary: Path) -> None:
    repository = tmp_path / "a b"
    folder = repository_argument(repository).parent
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(PathNotPlain, match="not private to this user"):
        make_plain(repository, tmp_path)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(PathNotPlain, match="use folders of plain names for KUBEREC_HOME"):
        make_plain(repository, tmp_path)
