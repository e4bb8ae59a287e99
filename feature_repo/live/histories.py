"""Live events into the online store's histories, whichever store it is."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from feature_repo.facts import LENGTH_TAG, read_facts
from feature_repo.live.events import Event
from feature_repo.live.merge import Entry
from feature_repo.live.rows import Merged, merged
from feature_repo.store import own_settings, registry_file, registry_place, store_folder
from feature_repo.stores.base import OnlineRow, OnlineRows, StoreDown
from recommender.errors import KuberecError

VIEW = "user_history"
_DEFAULT_LENGTH = 1000  # of features.history_length
_USERS = 500  # of one change: others wait for no longer than it takes


class Applied(NamedTuple):
    outcomes: list[str]  # of each event
    untimed: int  # histories whose events had no times


class LiveHistories:
    """The histories of a state home's feature store; for one thread at a time.

    The store is opened at the first use, and again after it was down, or when another
    materialisation has changed what is known of it. Usable as a context manager.
    """

    def __init__(self, home: Path, recheck_s: float = 60.0) -> None:
        """`recheck_s`: how often a registry in a database, which no file tells of, is looked at."""
        self._home = Path(home)
        self._recheck_s = recheck_s
        self._rows: OnlineRows | None = None
        self._was_open = False
        self._registry: Path | None = None
        self._online: Path | None = None
        self._opened: tuple[Any, ...] = ()
        self._until = math.inf  # when it is opened again, whatever the files say
        self.length = _DEFAULT_LENGTH  # latest events that a history holds, once it is open

    def open(self) -> None:
        """Connect; nothing happens where that is done already.

        Raises:
            KuberecError: nothing was materialised yet, or the store is of an unknown kind.
            StoreDown: it does not answer.
        """
        if self._rows is not None and self._is_as_opened():
            return
        from feature_repo.registry import RegistryError

        try:
            self._connect()
        except RegistryError as error:
            if self._rows is not None:  # the store itself may be well: the next look will tell
                self._until = time.monotonic() + self._recheck_s
            elif self._was_open:
                raise StoreDown(str(error)) from error
            else:
                raise
        self._was_open = True

    def _connect(self) -> None:
        from feature_repo.online.opening import online_file
        from feature_repo.store import open_store
        from feature_repo.stores.open import open_rows

        folder = store_folder(self._home)
        self._registry = registry_file(self._home)
        shared = _registry_is_shared()
        if not self._registry.is_file() and not shared:
            raise KuberecError(
                f"no feature store in '{folder}': live events go into histories that a pipeline "
                "has materialised; run one first (`kuberec run CONFIG`), or set KUBEREC_HOME to "
                "the state folder of one"
            )
        # Before it is read: what changes meanwhile is seen at the next look.
        files = _identity(self._registry, content=True)
        store = open_store(folder)
        length = _history_length(store, folder)
        self.close()
        online = online_file(store.config)
        self._online = online and store.config.repo_path / online
        self._opened = files, _identity(self._online, content=False)
        self._until = time.monotonic() + self._recheck_s if shared else math.inf
        self._rows = open_rows(store, VIEW)
        self.length = length

    def _is_as_opened(self) -> bool:
        """Neither registered anew, nor another database in place of the one that is open."""
        now = _identity(self._registry, content=True), _identity(self._online, content=False)
        return self._opened == now and time.monotonic() < self._until

    def apply(self, events: Sequence[Event]) -> Applied:
        """Merge events, in any order, into their users' histories.

        Idempotent: to apply the same again, whole or in part, changes nothing.

        Raises:
            StoreDown: events may have been applied in part. Apply them again.
            KuberecError: as of `open`.
        """
        self.open()
        assert self._rows is not None
        places: dict[str, list[int]] = {}
        for place, event in enumerate(events):
            places.setdefault(event.user_id, []).append(place)
        outcomes = [""] * len(events)
        untimed = 0
        users = list(places)
        for start in range(0, len(users), _USERS):
            part = users[start : start + _USERS]
            groups = [[_entry(events[place]) for place in places[user]] for user in part]
            for user, done in zip(part, self._change(part, groups), strict=True):
                untimed += done.untimed
                for place, outcome in zip(places[user], done.outcomes, strict=True):
                    outcomes[place] = outcome
        return Applied(outcomes, untimed)

    def _change(self, users: list[str], groups: list[list[Entry]]) -> list[Merged]:
        assert self._rows is not None
        last: list[Merged] = []

        def new(rows: Sequence[OnlineRow | None]) -> list[OnlineRow | None]:
            # May be called again when others write too: what it says last is what was written.
            last[:] = [
                merged(row, group, self.length) for row, group in zip(rows, groups, strict=True)
            ]
            return [each.row for each in last]

        try:
            self._rows.change(users, new, live=True)
        except StoreDown:
            self.close()
            raise
        return last

    def close(self) -> None:
        rows, self._rows = self._rows, None
        if rows is not None:
            rows.close()

    def __enter__(self) -> "LiveHistories":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _entry(event: Event) -> Entry:
    return Entry(event.time_us, event.rank, event.item_id)


def _history_length(store: Any, folder: Path) -> int:
    """Of the view as it was registered; else of the offline tables beside it.

    Raises:
        RegistryError: a registry in a database does not answer.
        KuberecError: it has no such view.
    """
    from feast.errors import FeatureViewNotFoundException

    from feature_repo.registry import RegistryError

    try:
        said = store.get_feature_view(VIEW).tags.get(LENGTH_TAG)
    except FeatureViewNotFoundException as error:
        raise KuberecError(
            f"the feature store's registry has no view '{VIEW}': materialise features first "
            "(`kuberec run CONFIG`)"
        ) from error
    except Exception as error:  # of the registry's own library
        raise RegistryError(
            f"the feature store's registry does not answer ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''})"
        ) from error
    return int(said or read_facts(folder / "offline").history_length or _DEFAULT_LENGTH)


def _registry_is_shared() -> bool:
    """Whether it is in a database. A file of it in the home is then a copy, if it is there."""
    settings = own_settings()
    return settings is not None and not isinstance(registry_place(settings), Path)


def _identity(file: Path | None, content: bool) -> tuple[int, ...] | None:
    """Which file it is; with `content`, also as of when."""
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    if status is None:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns if content else 0
