"""Signals that end a command which stays in the foreground, after it has cleaned up."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Let SIGINT (Ctrl-C), SIGTERM and SIGHUP end the block once, so that it can clean up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in before:  # once is enough: the next one would break off the cleaning up
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    # One that is ignored stays so: that is how nohup protects from SIGHUP.
    before = {
        each: signal.getsignal(each)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(each) is not signal.SIG_IGN
    }
    for each in before:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
