"""A file of items in the place of a source's own, read by the same mapping."""

from pathlib import Path

from pydantic import ValidationError

from ingestion.sources import ItemsSource
from recommender.errors import KuberecError

_FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}
_PACKED = (".gz", ".zst")
# Of how the source's own file is written; another file may be of another format.
_LAYOUT = ("delimiter", "quote", "encoding", "names", "compression")


def items_of_file(items: ItemsSource, file: Path) -> ItemsSource:
    """`items` with `file` as its only one: columns, text template and filters stay.

    Args:
        file: csv, tsv, jsonl or parquet, by its suffix; the first three may be .gz or .zst.

    Raises:
        KuberecError: no such file, or another suffix.
    """
    if not file.is_file():
        raise KuberecError(f"--items '{file}': no such file")
    suffixes = [each for each in file.suffixes if each not in _PACKED]
    kind = _FORMATS.get(suffixes[-1] if suffixes else "")
    if kind is None:
        # The source's own format: MovieLens calls a tsv file `.item`.
        kind = items.format
    if kind not in _FORMATS.values():
        raise KuberecError(
            f"--items '{file}': its name does not say what it is; allowed: {', '.join(_FORMATS)}"
        )
    settings = items.model_dump(
        exclude={"path", "package", "format", "sql", "iceberg", "version", "storage_options"}
    )
    if kind != items.format:
        settings = {key: value for key, value in settings.items() if key not in _LAYOUT}
    try:
        return ItemsSource.model_validate(settings | {"format": kind, "path": str(file.absolute())})
    except ValidationError as error:
        raise KuberecError(f"--items '{file}': {error.errors()[0]['msg']}") from error
