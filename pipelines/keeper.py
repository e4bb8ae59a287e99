"""The process that keeps a background endpoint running: starts again what dies, until told to stop.

`kuberec serve` does so itself; behind `kuberec run` and `kuberec serve --detach` this process does.
"""

import os
import sys
from datetime import datetime
from pathlib import Path

from pipelines.endpoint import endpoint, last_known
from serving.embedded.state import ServingHome
from serving.embedded.supervisor import Supervisor
from serving.process import alive, command_line, keep_earlier, spawn, this_process

_MODULE = "pipelines.keeper"


def start_keeper(home: Path) -> None:
    """Have somebody keep the endpoint of `home` running, if nobody does."""
    door = endpoint(home)
    with door.locked():
        keeper = door.state().foreground
        if keeper is not None and alive(keeper):
            return
        command = [sys.executable, "-P", "-m", _MODULE, str(Path(home).absolute())]
        log = ServingHome(home).logs / "keeper.log"
        keep_earlier(log)
        door.keep_for(spawn(command, log, dict(os.environ)))


def is_keeper(pid: int) -> bool:
    """Whether that process keeps an endpoint in the background, and is no `kuberec serve`."""
    return _MODULE in command_line(pid)


def main() -> None:
    """Keep the endpoint of the state home argv[1], until another command stops or takes it."""
    home, me = Path(sys.argv[1]), this_process()
    with endpoint(home).locked():
        pass  # who started this has named it by now
    Supervisor(lambda: last_known(home, None, {}), me, _say).run()


def _say(line: str) -> None:
    print(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S%z} {line}", flush=True)


if __name__ == "__main__":
    main()
