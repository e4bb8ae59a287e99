"""A process of `kuberec events follow`, and what it has put into the store."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from live_log import START_US, fields

from feature_repo.live.histories import VIEW
from feature_repo.live.rows import entries_of
from feature_repo.store import open_store, store_folder
from feature_repo.stores.open import open_rows

KUBEREC = Path(sys.executable).parent / "kuberec"


class Consumer:
    """A process that follows; what it says goes to a file."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.log = home / "follow.log"
        self._arguments = [str(KUBEREC), "events", "follow", "--user-ids", "stored", *arguments]
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._arguments, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def said(self, text: str) -> bool:
        return text in self.log.read_text()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def until(
    condition: Callable[[], bool], seconds: float = 60, consumer: Consumer | None = None
) -> None:
    end = time.monotonic() + seconds
    while not condition():
        said = consumer.log.read_text() if consumer else ""
        assert time.monotonic() < end, said
        time.sleep(0.02)


class Store:
    def __init__(self, home: Path) -> None:
        self._rows = open_rows(open_store(store_folder(home)), VIEW)

    def items(self, user: str) -> list[str]:
        return [each.item for each in entries_of(self._rows.read([user])[0])[0]]


def text(user: str, number: int) -> str:
    return json.dumps(fields(user, f"i{number}", START_US + number))
