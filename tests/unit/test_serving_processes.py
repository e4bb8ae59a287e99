"""Detached processes, ports, the lock and the state file of the embedded endpoint."""

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recommender.errors import KuberecError
from serving.embedded.replica import Replica
from serving.embedded.state import ServingBusy, ServingHome, State
from serving.embedded.transformer import TransformerServer
from serving.ports import PortTaken, free_ports, port_holder, require_free
from serving.process import ProcessRef, alive, find, log_tail, spawn, stop
from serving.settings import TransformerConfig
from serving.triton.server import TritonServer


def test_a_process_is_known_by_pid_and_start_time(tmp_path: Path) -> None:
    process = spawn(["sleep", "60"], tmp_path / "log", dict(os.environ))
    try:
        assert alive(process)
        assert not alive(process.model_copy(update={"started": process.started + 1}))
    finally:
        stop(process)
    assert not alive(process)
    stop(process)  # again, for nothing


def test_stop_takes_the_whole_session_even_from_the_deaf(tmp_path: Path) -> None:
    marker = f"6{os.getpid()}"
    script = f"trap '' TERM; sleep {marker} & sleep {marker}; wait"
    process = spawn(["bash", "-c", script], tmp_path / "log", dict(os.environ))
    while len(find("sleep", marker)) < 2:
        time.sleep(0.01)
    stop(process, timeout_s=0.2)
    assert not alive(process)
    assert find("sleep", marker) == []


def test_children_of_a_killed_leader_are_found(tmp_path: Path) -> None:
    marker = f"7{os.getpid()}"
    process = spawn(["bash", "-c", f"sleep {marker} & wait"], tmp_path / "log", dict(os.environ))
    while not find("sleep", marker):
        time.sleep(0.01)
    os.kill(process.pid, 9)
    stop(process)
    assert find("sleep", marker) == []


def test_a_spawned_process_survives_its_starter(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from serving.process import spawn;"
        "print(spawn(['sleep', '60'], Path(sys.argv[1]), dict(os.environ)).model_dump_json())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    process = ProcessRef.model_validate_json(done.stdout)
    assert alive(process)
    stop(process)
    assert not alive(process)


def test_log_tail(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "none") == "  (no log)"
    (tmp_path / "log").write_text("".join(f"line {i}\n" for i in range(50)))
    assert log_tail(tmp_path / "log", lines=2) == "  line 48\n  line 49"


def test_a_taken_port_names_its_holder() -> None:
    (port,) = free_ports(1)
    require_free("127.0.0.1", port, "serving.port")
    with socket.socket() as other:
        other.bind(("0.0.0.0", port))
        other.listen()
        assert port_holder(port) == os.getpid()
        with pytest.raises(PortTaken, match=rf"port {port} is taken by pid {os.getpid()} \(python"):
            require_free("127.0.0.1", port, "serving.port")
    require_free("127.0.0.1", port, "serving.port")
    with pytest.raises(KuberecError, match=r"cannot listen on 192\.0\.2\.1"):
        require_free("192.0.2.1", port, "serving.host")


def test_free_ports_are_distinct() -> None:
    assert len(set(free_ports(8))) == 8


def test_state_survives_a_round_trip(tmp_path: Path) -> None:
    home = ServingHome(tmp_path)
    assert home.load() == State()
    server = TritonServer(
        process=ProcessRef(pid=1, started=2),
        repository=tmp_path,
        http_port=1,
        grpc_port=2,
        metrics_port=3,
        shm_prefix="kuberec_x_",
        log=tmp_path / "log",
    )
    transformer = TransformerServer(
        process=ProcessRef(pid=3, started=4),
        version_dir=tmp_path,
        http_port=4,
        grpc_port=5,
        side_port=6,
        predictor_port=2,
        settings=TransformerConfig(max_ids=7),
        log=tmp_path / "log",
    )
    replica = Replica(triton=server, transformer=transformer)
    state = State(current="a", previous="b", weights={"a": 90, "c": 10}, replicas={"a": replica})
    assert state.shares == {"a": 90, "c": 10}
    assert state.in_use == {"a", "b", "c"}
    assert State(current="a").shares == {"a": 100}
    assert State().shares == {}
    home.save(state)
    assert home.load() == state
    (home.root / "state.json").write_text("{")
    with pytest.raises(KuberecError, match=r"state\.json' is not readable"):
        home.load()


def _hold(home: Path, held: object, release: object) -> None:
    with ServingHome(home).locked(0):
        held.set()  # type: ignore[attr-defined]
        release.wait()  # type: ignore[attr-defined]


def test_two_commands_cannot_change_what_serves_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, release))
    other.start()
    try:
        assert held.wait(20)
        home = ServingHome(tmp_path)
        with pytest.raises(ServingBusy, match=rf"\(pid {other.pid}\)"), home.locked(0.1):
            pass
        release.set()
        with home.locked(10), home.locked(0):  # waits for the other; may be nested
            pass
    finally:
        release.set()
        other.join()
