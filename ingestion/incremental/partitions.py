"""Which files belong together: partitions, as the paths of the files say it."""

import re
from collections.abc import Sequence

from ingestion.errors import IngestError
from ingestion.incremental.settings import IncrementalConfig
from ingestion.reading.files import SourceFile
from recommender.files import fingerprint


def partitions(
    files: Sequence[SourceFile], config: IncrementalConfig
) -> dict[str, list[SourceFile]]:
    """The files of each partition, both sorted by name; one partition "" where none is configured.

    Raises:
        IngestError: a file's path names no partition.
    """
    found: dict[str, list[SourceFile]] = {}
    for file in files:
        name = ""
        if config.partition is not None:
            match = re.search(config.partition, file.name)
            name = (match and match["partition"]) or ""
            if not name:
                raise IngestError(
                    f"events: file '{file.name}' belongs to no partition, by "
                    f"source.incremental.partition '{config.partition}'; correct the pattern, "
                    "or narrow source.events.path"
                )
        found.setdefault(name, []).append(file)
    return {name: sorted(found[name], key=lambda file: file.name) for name in sorted(found)}


def partition_fingerprint(files: Sequence[SourceFile]) -> str:
    """Of a partition's content: changes with any file's content, with a file more or less.

    Names count: the rejects say them.
    """
    return fingerprint([[file.name, file.fingerprint] for file in files])
