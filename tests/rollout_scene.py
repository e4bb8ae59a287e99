"""An embedded endpoint with a stable version, canaries of all kinds, and clients that ask it."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feature_stores import sqlite_store
from quick_rollouts import quick_rollout
from rollout_load import Ask, SteadyLoad
from tiny_version import catalogue, write_tiny_version

from recommender.files import write_json
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.embedded.supervisor import Supervisor
from serving.parity import golden_answers
from serving.ports import LOCAL, free_ports
from serving.process import find, this_process
from serving.rollout.embedded.rollout import rollout
from serving.rollout.embedded.target import EmbeddedTarget
from serving.rollout.machine import abort
from serving.rollout.outcome import RolloutStopped
from serving.rollout.record import Rollout
from serving.rollout.settings import RolloutConfig
from serving.settings import ServingConfig, TransformerConfig

STABLE, GOOD, SHUFFLED = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"
# Of users whose features are so old that a version may refuse them, see `refusing`.
OLD, OLDER = "two-days-old", "a-year-old"
# Limits on latency that 50 ms more are beyond, on a quiet machine.
IN_TIME = {"max_latency_ratio": 1.5, "latency_slack_ms": 25}
_DAY = 86_400
_USERS = {
    "196": (["item-1", "item-2", "item-3"], timedelta(hours=1)),
    OLD: (["item-5"], timedelta(days=2)),
    OLDER: (["item-6"], timedelta(days=365)),
}
_SCRIPT = (
    "import sys; from pathlib import Path; from serving.rollout.embedded.rollout import rollout; "
    "from serving.settings import ServingConfig; rollout(Path(sys.argv[1]), Path(sys.argv[2]), "
    "ServingConfig.model_validate_json(sys.argv[3]), print)"
)


def judged(*steps: int, bake_s: float = 1.0, **changes: Any) -> RolloutConfig:
    """A quick rollout with limits that tell faults from what is well; of latency see IN_TIME."""
    limits = {
        "max_latency_ratio": 3,
        "latency_slack_ms": 100,
        "max_unready_s": 1,
        "own_requests": 0,
        "ranking": {
            "min_overlap": 0.6,
            "min_rbo": 0.5,
            "min_coverage_ratio": 0.3,
            "max_popular_increase": 0.6,
            "min_pairs": 20,
        },
    }
    return quick_rollout(*steps, bake_s=bake_s, **(limits | changes))


def refusing(days: float) -> TransformerConfig:
    """Requests of users with older features fail: FAILED_PRECONDITION, or 503."""
    rule = {"user_history": {"max_age_s": days * _DAY, "policy": "reject"}}
    # On a busy machine a lookup may be late, and its user be answered without features.
    return TransformerConfig.model_validate({"freshness": rule, "lookup_timeout_s": 5})


class Scene:
    """The endpoint with STABLE serving; it refuses the user OLDER, and answers OLD."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        port, admin_port = free_ports(2)
        self.config = ServingConfig(port=port, admin_port=admin_port, transformer=refusing(30))
        kinds: dict[str, dict[str, Any]] = {
            STABLE: {},
            GOOD: {"noise": 0.02},
            SHUFFLED: {"shuffled": True},
        }
        items = catalogue()
        self.sources = {
            version: write_tiny_version(folder / version, items, version, **kind)
            for version, kind in kinds.items()
        }
        now = datetime.now(UTC)
        users = {user: (history, now - age) for user, (history, age) in _USERS.items()}
        store = sqlite_store(self.home / "feature_store", users, list(kinds))
        write_json(store / "versions.json", list(kinds))
        self.asks = _asks(self.sources, items)
        self.endpoint = EmbeddedEndpoint(self.home, self.config)
        rollout(self.sources[STABLE], self.home, self.config)

    def load(self, **options: Any) -> SteadyLoad:
        return SteadyLoad(self.endpoint.url, self.asks, **options)

    def roll(self, version: str, config: RolloutConfig, **settings: Any) -> Rollout:
        """Roll out, however it ends."""
        changes = {"rollout": config, **settings}
        chosen = self.config.model_copy(update=changes)
        try:
            rollout(self.sources[version], self.home, chosen)
        except RolloutStopped as stopped:
            return stopped.rollout
        found = self.target().load()
        assert found is not None
        return found

    def target(self) -> EmbeddedTarget:
        return EmbeddedTarget(self.home, self.config)

    def record(self) -> Rollout | None:
        return self.target().load()

    @contextmanager
    def rolling(
        self, version: str, config: RolloutConfig, **settings: Any
    ) -> Iterator[list[Rollout]]:
        """In a thread, while the block does something; how it ended is there afterwards."""
        ended: list[Rollout] = []
        thread = threading.Thread(
            target=lambda: ended.append(self.roll(version, config, **settings))
        )
        thread.start()
        try:
            yield ended
        finally:
            thread.join(60)
        assert ended

    @contextmanager
    def kept(self, say: Callable[[str], None]) -> Iterator[None]:
        """What dies is started again meanwhile, by a thread."""
        me = this_process()
        self.endpoint.keep_for(me)
        keeper = Supervisor(lambda: EmbeddedEndpoint(self.home, self.config), me, say)
        thread = threading.Thread(target=keeper.run)
        thread.start()
        try:
            yield
        finally:
            self.endpoint.keep_for(None)
            thread.join(20)
        assert not thread.is_alive()

    def start(self, version: str, config: RolloutConfig) -> subprocess.Popen[bytes]:
        """In a process of its own."""
        chosen = self.config.model_copy(update={"rollout": config}).model_dump_json()
        command = [sys.executable, "-c", _SCRIPT, self.sources[version], self.home, chosen]
        return subprocess.Popen([str(each) for each in command], stdout=subprocess.DEVNULL)

    def kill_when(
        self, version: str, config: RolloutConfig, when: Callable[[Rollout], bool]
    ) -> Rollout:
        """Run it in a process of its own, and kill that as soon as the record is so."""
        earlier = self.record()
        process = self.start(version, config)
        try:
            while True:
                found = self.record()
                resumed = found is not None and (earlier is None or found != earlier)
                if found is not None and resumed and when(found):
                    return found
                assert process.poll() is None, f"ended before: {found}"
                time.sleep(0.002)
        finally:
            process.kill()
            process.wait()

    def part(self, version: str, name: str) -> int:
        """The pid of a version's "transformer" or "triton"."""
        return getattr(self.endpoint.state().replicas[version], name).process.pid

    def kill(self, version: str, name: str) -> None:
        os.kill(self.part(version, name), signal.SIGKILL)

    def servers(self, version: str) -> int:
        """Processes that serve it."""
        folder = (self.endpoint.home.versions / version).resolve()
        return len(
            find("tritonserver", f"--model-repository={folder}")
            + find("python", f"--model_dir={folder}")
        )

    def require_stable_alone(self) -> None:
        state = self.endpoint.state()
        assert (state.current, state.weights, state.trial) == (STABLE, {}, None)
        assert state.replicas.keys() == {STABLE}
        assert self.endpoint.status()["serving"]
        assert [self.servers(each) for each in (STABLE, GOOD, SHUFFLED)] == [2, 0, 0]
        with self.load() as load:
            wait_for(lambda: len(load.events) > 10)
        assert load.versions().keys() == {STABLE}

    def reset(self) -> None:
        """STABLE alone, whatever came of a rollout."""
        last = self.record()
        if last is not None and last.unfinished:
            abort(self.target())
        self.endpoint.switch(STABLE)
        self.endpoint.set_previous(None)
        self.endpoint.retire()


def wait_for(condition: Callable[[], Any], timeout_s: float = 40) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _asks(sources: dict[str, Path], items: list[str]) -> list[Ask]:
    """Some 80 different requests, and users among them, with every version's answers."""
    chooser = random.Random(6)
    histories = [chooser.sample(items, chooser.randint(1, 6)) for _ in range(80)]
    users = {user: history for user, (history, _) in _USERS.items()}
    requests = [{"history": each, "exclude": []} for each in [*histories, *users.values()]]
    answers = {version: golden_answers(path, requests) for version, path in sources.items()}
    names = [None] * len(histories) + list(users)
    return [
        Ask(
            request["history"],
            {version: found[number] for version, found in answers.items()},
            user,
            poisoned=user in (OLD, OLDER),
        )
        for number, (request, user) in enumerate(zip(requests, names, strict=True))
    ]


@contextmanager
def slow_ports(ports: tuple[int, int], delay_s: float) -> Iterator[tuple[int, int]]:
    """Ports that lead to others of this machine, where what is sent arrives later."""
    loop = asyncio.new_event_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, s: float) -> None:
        try:
            while data := await reader.read(65536):
                loop.call_later(s, writer.write, data)
        except OSError:
            pass
        finally:
            loop.call_later(s, writer.close)

    async def serve(port: int) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(LOCAL, port)
            await asyncio.gather(carry(reader, back, delay_s), carry(there, writer, 0.0))

        return await asyncio.start_server(connected, LOCAL, 0)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    servers = [asyncio.run_coroutine_threadsafe(serve(port), loop).result(10) for port in ports]
    try:
        http_port, grpc_port = (server.sockets[0].getsockname()[1] for server in servers)
        yield http_port, grpc_port
    finally:
        for server in servers:
            loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
