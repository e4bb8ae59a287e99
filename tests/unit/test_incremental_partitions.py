"""Which files make a partition, and when its content has changed."""

import pytest
from pydantic import ValidationError

from ingestion.errors import IngestError
from ingestion.incremental.partitions import partition_fingerprint, partitions
from ingestion.incremental.settings import IncrementalConfig
from ingestion.reading.files import SourceFile

DAYS = IncrementalConfig(partition=r"dt=(?P<partition>[0-9-]+)")


def file(name: str, content: str = "c") -> SourceFile:
    return SourceFile(name, name, "csv", content)


def test_files_go_by_their_path_in_the_order_of_names() -> None:
    names = ["e/dt=2024-01-02/b.csv", "e/dt=2024-01-02/a.csv", "e/dt=2024-01-01/z.csv"]
    found = partitions([file(name) for name in names], DAYS)
    assert list(found) == ["2024-01-01", "2024-01-02"]
    assert [each.name[-5:] for each in found["2024-01-02"]] == ["a.csv", "b.csv"]


def test_without_a_pattern_everything_is_one() -> None:
    files = [file("a"), file("b")]
    assert partitions(files, IncrementalConfig()) == {"": files}


@pytest.mark.parametrize("name", ["e/latest.csv", "e/dt=/a.csv"])
def test_a_file_of_no_partition_is_named(name: str) -> None:
    with pytest.raises(IngestError, match=rf"file '{name}' belongs to no partition, .*correct"):
        partitions([file("e/dt=1/a.csv"), file(name)], DAYS)


def test_the_fingerprint_follows_contents_and_files() -> None:
    one, two = file("a"), file("b")
    prints = [
        partition_fingerprint(files)
        for files in ([one], [one, two], [two], [file("a", "other"), two])
    ]
    assert len(set(prints)) == 4
    assert partition_fingerprint([file("a")]) == prints[0]


@pytest.mark.parametrize(("pattern", "message"), [("dt=(", "no regular"), ("dt=.*", "a group")])
def test_a_pattern_that_cannot_work_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        IncrementalConfig(partition=pattern)
