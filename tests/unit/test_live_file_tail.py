"""A followed file: lines whole, in order, each once, over rotation, truncation and restarts."""

import random
from pathlib import Path

import pytest

from feature_repo.live.events import MAX_LINE
from feature_repo.live.sources import file_tail
from feature_repo.live.sources.file_tail import FileTail
from recommender.errors import KuberecError
from recommender.files import write_json


class Scene:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "events.jsonl"
        self.state = folder / "state" / "follow.json"

    def write(self, text: str, name: str | None = None) -> None:
        with (self.path.with_name(name) if name else self.path).open("a") as file:
            file.write(text)

    def open(self, from_end: bool = False) -> FileTail:
        return FileTail(self.path, self.state, from_end)

    def rotate(self) -> None:
        """As logrotate does: .1 becomes .2 and so on, the file becomes .1, a new one is made."""
        names = [self.path.with_name(f"events.jsonl.{n}") for n in range(1, 100)]
        last = next(n for n, name in enumerate(names) if not name.exists())
        for n in range(last, 0, -1):
            names[n - 1].rename(names[n])
        self.path.rename(names[0])
        self.path.touch()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(file_tail, "_QUIET_S", 0.05)
    monkeypatch.setattr(file_tail, "_SAVE_S", 0.0)
    return Scene(tmp_path)


def polled(tail: FileTail, most: int = 100, timeout_s: float = 0.0) -> list[str]:
    lines = [line.text.decode() for line in tail.poll(timeout_s, most)]
    tail.commit()
    return lines


def killed(tail: FileTail) -> None:
    """No `close`: what was committed, and nothing else, is known."""
    if tail._file:
        tail._file.close()


def test_a_line_waits_for_its_end(scene: Scene) -> None:
    tail = scene.open()
    assert "there is no file" in str(tail.trouble())
    scene.write("one\ntw")
    assert polled(tail) == ["one"]
    assert polled(tail) == []
    scene.write("o\nthree\n")
    (two, three) = tail.poll(0.0, 10)
    assert (two.text, three.place) == (b"two", "events.jsonl:3")
    assert tail.trouble() is None


def test_a_restart_goes_on_where_it_was_committed(scene: Scene) -> None:
    scene.write("a\nb\nc\nd\ne")
    tail = scene.open()
    assert polled(tail, most=2) == ["a", "b"]
    assert [line.text for line in tail.poll(0, 1)] == [b"c"]  # not committed
    killed(tail)
    tail = scene.open()
    assert polled(tail) == ["c", "d"]
    tail.poll(0, 1)
    tail.close()  # nor is the end a commit
    scene.write("\n")
    assert polled(scene.open()) == ["e"]


def test_what_was_polled_and_not_committed_is_not_saved_at_the_end(scene: Scene) -> None:
    scene.write("a\nb\n")
    tail = scene.open()
    tail.poll(0, 1)
    tail.close()
    assert polled(scene.open()) == ["a", "b"]


def test_from_the_end_only_where_nothing_is_remembered(scene: Scene) -> None:
    scene.write("old\n")
    tail = scene.open(from_end=True)
    scene.write("new\n")
    assert polled(tail) == ["new"]
    killed(tail)
    scene.write("newer\n")
    assert polled(scene.open(from_end=True)) == ["newer"]


def test_a_renamed_file_is_read_to_its_end_first(scene: Scene) -> None:
    scene.write("a\n")
    tail = scene.open()
    assert polled(tail) == ["a"]
    scene.rotate()
    scene.write("b\n", "events.jsonl.1")  # who writes has not noticed yet
    scene.write("d\n")
    assert polled(tail) == ["b"]
    scene.write("c, cut", "events.jsonl.1")
    assert polled(tail, timeout_s=0.3) == ["c, cut"]
    assert polled(tail, timeout_s=0.3) == ["d"]


def test_rotations_that_nobody_saw(scene: Scene) -> None:
    scene.write("a\nb\n")
    tail = scene.open()
    assert polled(tail, most=1) == ["a"]
    killed(tail)
    for text in ("c\nd\n", "e\n"):
        scene.rotate()
        scene.write(text)
    tail = scene.open()
    found: list[str] = []
    while lines := polled(tail, timeout_s=0.3):
        found += lines
    assert found == ["b", "c", "d", "e"]
    unread = tail.unread()
    assert unread is not None
    assert unread.amount == 0


def test_a_file_that_was_emptied_is_read_from_its_start(scene: Scene) -> None:
    scene.write("a\nb\n")
    tail = scene.open()
    assert polled(tail) == ["a", "b"]
    scene.path.write_text("c\n")
    assert polled(tail) == ["c"]
    scene.path.write_text("longer than it was\n")
    assert polled(tail) == ["longer than it was"]
    killed(tail)
    scene.path.write_text("other, and as long.\nx\n")
    tail = scene.open()
    assert "is gone" in str(tail.trouble())
    assert polled(tail) == ["other, and as long.", "x"]


def test_an_endless_line_is_one_reject_and_the_next_line_is_read(scene: Scene) -> None:
    scene.write("a\n" + "x" * (3 * MAX_LINE))
    tail = scene.open()
    assert str(tail.unread()) == f"Unread(amount={3 * MAX_LINE + 2}, unit='bytes')"
    first, long = tail.poll(0, 10)
    assert first.text == b"a"
    assert (long.place, len(long.text) > MAX_LINE) == ("events.jsonl:2", True)
    tail.commit()
    killed(tail)
    scene.write("xx\nb\n")
    tail = scene.open()
    assert polled(tail) == ["b"]


def test_killed_at_any_time_nothing_is_lost_and_order_is_kept(scene: Scene) -> None:
    chance = random.Random(4)
    text, count = "", 0
    tail = scene.open()
    found: list[str] = []
    for _ in range(300):
        for _ in range(chance.randrange(4)):
            text += f"line {count}\n"
            count += 1
        cut = chance.randrange(len(text) + 1)
        scene.write(text[:cut])
        text = text[cut:]
        lines = [line.text.decode() for line in tail.poll(0, chance.randrange(1, 4))]
        if chance.random() < 0.7:
            tail.commit()
            found += lines
        else:
            killed(tail)
            tail = scene.open()
        if chance.random() < 0.05:
            scene.write(text)  # who writes ends his line first
            text = ""
            scene.rotate()
    scene.write(text)
    while lines := polled(tail, timeout_s=0.3):
        found += lines
    # Files that were renamed at the same moment may be read twice.
    assert list(dict.fromkeys(found)) == [f"line {number}" for number in range(count)]


def test_states_that_cannot_be_used(scene: Scene, tmp_path: Path) -> None:
    scene.write("a\n")
    tail = scene.open()
    polled(tail)
    tail.close()
    with pytest.raises(
        KuberecError, match=r"says how far '.*events.jsonl' was read, not '.*other'"
    ):
        FileTail(tmp_path / "other", scene.state)
    write_json(scene.state, {"path": str(scene.path), "offset": "7"})
    with pytest.raises(KuberecError, match=r"does not say how far .* delete it"):
        scene.open()
    with pytest.raises(KuberecError, match="is a folder"):
        FileTail(tmp_path, scene.state)
