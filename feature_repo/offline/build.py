"""Offline tables and training windows, by the engine."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feature_repo.config import FeatureConfig
from feature_repo.offline import EVENTS, ITEMS
from feature_repo.offline.items import write_items
from feature_repo.offline.write import write_windows
from recommender.engines.base import TableEngine
from recommender.engines.duckdb import DuckDBTables
from recommender.errors import KuberecError
from recommender.files import atomic_directory

Progress = Callable[[int, int, str], None]
# Starts what `features.engine` names; what it puts on disk goes into the folder.
OpenEngine = Callable[[Path], TableEngine]


def build_features(
    snapshot_dir: Path,
    vectors_dir: Path,
    config: FeatureConfig,
    out_dir: Path,
    progress: Progress | None = None,
    open_engine: OpenEngine | None = None,
) -> dict[str, Any]:
    """Write the folder `out_dir`: offline/, windows.parquet, vocabulary.json, features.json.

    Nothing that serves is touched (`feature_repo.materialize.home.materialize` does that).

    Args:
        open_engine: None: DuckDB here.

    Returns:
        The content of features.json.

    Raises:
        FeatureError: the k-core is empty; or a history holds an event that it must not.
    """
    tell = progress or (lambda done, total, message: None)
    with atomic_directory(out_dir) as draft:
        work = draft / ".work"  # in the draft, so that a kill leaves nothing behind
        work.mkdir()
        engine = (open_engine or _duckdb(config))(work)
        try:
            summary = write_windows(
                engine, snapshot_dir, config, draft, lambda message: tell(0, 0, message)
            )
            tell(0, 0, "items")
            offline = draft / "offline"
            write_items(engine, snapshot_dir, vectors_dir, offline / EVENTS, offline / ITEMS)
        finally:
            engine.close()
        shutil.rmtree(work)
    return summary


def _duckdb(config: FeatureConfig) -> OpenEngine:
    if config.engine.name != "duckdb":
        raise KuberecError(
            f"features.engine.name is {config.engine.name}: pass `open_engine`, as the pipeline's "
            "step build-features does"
        )
    return lambda work: DuckDBTables(config.engine, work)
