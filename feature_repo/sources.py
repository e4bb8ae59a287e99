"""The offline tables that features are read from; feature_repo.offline writes them.

Paths are absolute: Feast's DuckDB store reads relative ones from the working directory.
"""

from pathlib import Path

from feast import FileSource
from feast.data_format import ParquetFormat

from feature_repo.config import EVENT_TIME


def history_source(offline: Path) -> FileSource:
    """One row an event: the user's history just after it."""
    return FileSource(
        name="user_history_source",
        path=str(Path(offline).absolute() / "user_history.parquet"),
        file_format=ParquetFormat(),
        timestamp_field=EVENT_TIME,
    )


def item_source(offline: Path) -> FileSource:
    """One row an item, as of the snapshot's last event."""
    return FileSource(
        name="item_features_source",
        path=str(Path(offline).absolute() / "item_features.parquet"),
        file_format=ParquetFormat(),
        timestamp_field=EVENT_TIME,
    )
