"""A sample of clients' answers, each with the features that it came from, for `features replay`.

Whole requests, chosen by their id where they have one: every replica, and whoever logs requests
elsewhere by the same rule, chooses the same ones.
"""

import asyncio
import hashlib
import logging
import random
from pathlib import Path

from feature_repo.replay.log_files import FOLDER
from feature_repo.store import service_name
from recommender.errors import KuberecError
from recommender.pseudonyms import key_id, read_key
from serving.transformer import metrics
from serving.transformer.request_log.entry import Entry, Served, as_rows
from serving.transformer.request_log.settings import KEY_SETTING, RequestLogConfig
from serving.transformer.request_log.writer import LogWriter

log = logging.getLogger("kuberec.request_log")
_MAX_ID = 128  # characters of a request's id; clients choose it


class RequestLog:
    """What the model offers its answers to.

    Args:
        share: of requests, 0 to 1.
        writer: None where there should be a log and cannot be one: that is counted.
    """

    def __init__(self, share: float, writer: LogWriter | None) -> None:
        self._share, self._writer = share, writer
        self._below = int(share * 2**64)

    @property
    def on(self) -> bool:
        """Whether anything is ever taken; if not, nothing need be noted of a request."""
        return self._share > 0

    def takes(self, request_id: str) -> bool:
        """Whether a request is in the sample; one without an id by chance."""
        if self._share >= 1:
            return True
        if not request_id:
            return random.random() < self._share
        digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._below

    def offer(self, entry: Entry) -> None:
        """Keep an answered request that `takes` said yes to."""
        if self._writer is None:
            metrics.LOG_ROWS.labels("refused").inc(entry.ask.rows)
        else:
            self._writer.offer(entry._replace(request_id=entry.request_id[:_MAX_ID]))

    async def close(self) -> None:
        """Write what there is."""
        if self._writer is not None:
            await asyncio.to_thread(self._writer.close)


def open_log(config: RequestLogConfig, version: str, feature_store: Path) -> RequestLog:
    """The log of one process. Where it cannot be, requests are answered all the same.

    Args:
        feature_store: the embedded store's folder, beside which the log lies by default; or a
            feature_store.yaml.
    """
    if not config.share:
        return RequestLog(0.0, None)
    try:
        key = read_key(config.user_key_env, KEY_SETTING)
        folder = _folder(config, feature_store)
    except KuberecError as error:
        log.error("no request log: %s", error)
        return RequestLog(config.share, None)
    served = Served(version, service_name(version), key, key_id(key))
    log.info("%g of requests are logged to '%s'", config.share, folder)
    return RequestLog(
        config.share, LogWriter(folder, config, lambda entries: as_rows(entries, served))
    )


def _folder(config: RequestLogConfig, feature_store: Path) -> Path:
    if config.folder is not None:
        return Path(config.folder)
    if feature_store.suffix in (".yaml", ".yml"):  # a folder may not be there yet
        raise KuberecError(
            "serving.transformer.request_log.folder is not set: name the path of a volume that is "
            "mounted into this container"
        )
    return feature_store.absolute().parent / FOLDER
