"""Compiling pipelines without waiting for it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipelines.cluster import compile as cluster
from pipelines.config import RunConfig


def compile_pipeline(config: RunConfig, target: Path, **options: Any) -> None:
    """As pipelines.cluster.compile, in a thread, whose stack is short.

    At every setting of a task kfp goes through the whole stack, and for each frame of it through
    all modules there are: under pytest, seconds a pipeline.
    """
    with ThreadPoolExecutor(1) as pool:
        pool.submit(cluster.compile_pipeline, config, target, **options).result()
