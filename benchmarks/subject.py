"""What is measured: the version that serves, its torch model, and users with their histories."""

import os
import random
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.store import store_folder
from recommender.errors import KuberecError
from recommender.files import content_fingerprint
from recommender.schema import USER_ID
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.version import ModelVersion, load_version

USERS = 500


class Subject(NamedTuple):
    """The version measured, with what belongs to it, and who asks."""

    version: ModelVersion
    student: Path  # the torch model that the version's graphs were made from
    feature_store: Path
    histories: dict[str, list[str]]  # by user


def find_subject(home: Path, runs: Path, student: Path | None = None) -> Subject:
    """The version that serves, or served last, from a state home, and users of its feature store.

    Args:
        student: folder of the version's torch model; by default looked for in `runs`.

    Raises:
        KuberecError: no version was ever installed, or a part of it is not there any more.
    """
    from feature_repo.online.histories import online_histories

    endpoint = EmbeddedEndpoint(home)
    installed = sorted(endpoint.home.versions.glob("*/kuberec.json"), key=os.path.getmtime)
    if not installed:
        raise KuberecError("there is no model version to measure: `kuberec run` makes one")
    version = load_version(
        endpoint.home.versions / (endpoint.state().current or installed[-1].parent.name)
    )
    table = store_folder(home) / "offline" / "user_history.parquet"
    users = sorted(pc.unique(pq.read_table(table, columns=[USER_ID])[USER_ID]).to_pylist())
    random.Random(0).shuffle(users)
    return Subject(
        version=version,
        student=student or find_student(home, runs, version),
        feature_store=store_folder(home),
        histories=online_histories(home, users[:USERS]),
    )


def find_student(home: Path, runs: Path, version: ModelVersion) -> Path:
    """The torch student whose INT8 graph is in `version`: in a run's steps or in their cache.

    Raises:
        KuberecError: none is there any more.
    """
    wanted = content_fingerprint(version.directory / "ranker/1/model.onnx")
    for folder in (runs, home / "cache"):
        for ranker in sorted(folder.glob("**/compressed/ranker.onnx")):
            if content_fingerprint(ranker) == wanted:
                return ranker.parent / "student"
    raise KuberecError(
        f"no run in '{runs}' has the torch model of version {version.version}, which the peer "
        "needs; name its folder with --student"
    )
