"""A user in the request log, where pseudonyms have a key of their own."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from feature_repo.replay.log_files import FOLDER, log_files
from pipelines.erase.report import Report, counted
from recommender.pseudonyms import key_id, pseudonym, read_key
from serving.transformer.request_log.settings import KEY_SETTING, RequestLogConfig


def log_folder(config: RequestLogConfig, home: Path) -> Path:
    """Where transformers of a state home, or of a cluster, write it."""
    return Path(config.folder) if config.folder is not None else home / FOLDER


def log_keys(config: RequestLogConfig, folder: Path, old_keys: Sequence[str]) -> list[bytes]:
    """The keys of pseudonyms in a log, that of today first; none where there is no log.

    Raises:
        KeyMissing: there is a log, and a key is not in the environment: without it nobody could
            be found there.
    """
    if not folder.is_dir():
        return []
    return [read_key(name, KEY_SETTING) for name in (config.user_key_env, *old_keys)]


def log_ids(ids: Sequence[str], keys: Sequence[bytes]) -> list[str]:
    """What the log calls a user whom the endpoint was asked for by any of `ids`."""
    return [pseudonym(each, key) for key in keys for each in ids]


def tell_other_keys(folder: Path, keys: Sequence[bytes], report: Report) -> None:
    """Report rows under a key that is not at hand: whose they are cannot be told."""
    known = {key_id(key) for key in keys}
    others: dict[str, int] = {}
    for file in log_files(folder):
        for each in pq.read_table(file.path, columns=["user_key"])["user_key"].value_counts():
            name, rows = each["values"].as_py(), each["counts"].as_py()
            if name not in known:
                others[name] = others.get(name, 0) + rows
    for name, rows in sorted(others.items()):
        report.left(
            folder,
            f"{counted(rows, 'row')} of anybody, under the key {name}",
            "name the variable that has this key by --old-key, or remove what it logged",
        )
