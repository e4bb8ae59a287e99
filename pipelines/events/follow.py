"""The consumer as a process: its source, its signals, its metrics."""

import contextlib
import fcntl
import hashlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from feature_repo.live.follow import Follower
from feature_repo.live.histories import LiveHistories
from feature_repo.live.intake import Intake
from feature_repo.live.outcomes import Tally
from feature_repo.live.sources.base import EventSource
from feature_repo.stores.base import StoreDown
from recommender.errors import KuberecError
from recommender.files import ensure_writable


@contextlib.contextmanager
def open_source(
    file: Path | None,
    topic: str | None,
    brokers: str,
    group: str,
    properties: Path | None,
    from_end: bool,
    state: Path | None,
    folder: Path,
) -> Iterator[EventSource]:
    """The file or the topic, whichever is given; closed with the block.

    Args:
        folder: where the state of a file is kept, if `state` does not say.

    Raises:
        KuberecError: as of the source; another process follows the file with this state.
    """
    source: EventSource
    with contextlib.ExitStack() as stack:
        if file is not None:
            from feature_repo.live.sources.file_tail import FileTail

            path = state or ensure_writable(folder) / f"{_name_of(file)}.json"
            stack.enter_context(_alone(path))
            source = FileTail(file, path, from_end)
        else:
            from feature_repo.live.sources.kafka_topic import KafkaTopic, read_properties

            given = read_properties(properties) if properties else {}
            source = KafkaTopic(topic or "", brokers, group, from_end, given)
        stack.callback(source.close)
        yield source


def follow(
    source: EventSource,
    histories: LiveHistories,
    intake: Intake,
    metrics_port: int | None,
    say: Callable[[str], None],
) -> Tally:
    """Until SIGINT or SIGTERM; what became of all events.

    Raises:
        KuberecError: nothing was materialised yet; as of `Follower.run`.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    metrics = None
    if metrics_port is not None:
        from feature_repo.live.metrics import LiveMetrics

        metrics = LiveMetrics()
        metrics.serve(metrics_port)
    # One that is down is waited for; one that is not there is said at once.
    with contextlib.suppress(StoreDown):
        histories.open()
    return Follower(source, intake, stop, say, metrics).run()


def _name_of(file: Path) -> str:
    """Of a file's state: its name, and what tells it from others of the name."""
    path = str(file.absolute())
    return f"follow-{file.name}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    ensure_writable(state.parent)
    with state.with_name(f"{state.name}.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise KuberecError(
                f"another process follows this file with '{state}': end it, or give this one a "
                "state of its own by --state"
            ) from error
        yield  # the system drops the lock with the process, however that ends
