"""The embedded endpoint: two versions, one door, and everything that goes wrong."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from endpoint_load import Load
from quick_rollouts import quick_rollout
from tiny_version import REQUESTS, catalogue, write_tiny_repository, write_tiny_version

from recommender.errors import GateFailed
from serving.client import RecommendClient, RecommendError
from serving.embedded.endpoint import EmbeddedEndpoint, NothingToServe
from serving.embedded.state import State
from serving.parity import golden_answers
from serving.ports import PortTaken, free_ports
from serving.process import find
from serving.rollout.embedded.rollout import rollout
from serving.rollout.outcome import RolloutStopped
from serving.settings import ServingConfig, TransformerConfig, load_settings
from serving.triton.repository import EMBEDDED
from serving.version import VersionError, load_version, write_manifest

A, B, C = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[EmbeddedEndpoint]:
    port, admin_port = free_ports(2)
    config = ServingConfig(
        port=port, admin_port=admin_port, keep_versions=2, rollout=quick_rollout()
    )
    endpoint = EmbeddedEndpoint(tmp_path / "home", config)
    try:
        yield endpoint
    finally:
        endpoint.stop_all()
        assert leftovers(endpoint) == []


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    def make(version: str) -> Path:
        items = catalogue(prefix=f"{version[0]}-")
        return write_tiny_version(tmp_path / version, items, version, seed=ord(version[0]))

    return make


def roll(endpoint: EmbeddedEndpoint, version_dir: Path) -> dict:
    return rollout(version_dir, endpoint.home.root.parent, endpoint.config)


def servers(endpoint: EmbeddedEndpoint) -> list[int]:
    """Pids of Tritons and transformers."""
    return sorted(
        process.pid
        for folder in endpoint.home.versions.glob("*")
        for process, _ in find("tritonserver", f"--model-repository={folder}")
        + find("python", f"--model_dir={folder}")
    )


def leftovers(endpoint: EmbeddedEndpoint) -> list[str]:
    """Processes that name this home in their command line."""
    home, found = str(endpoint.home.root), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if home in command:
                found.append(command)
    return found


def answer(endpoint: EmbeddedEndpoint) -> tuple[str, str | None]:
    """First letter of the catalogue that answers, and the version that the door names."""
    with RecommendClient(endpoint.url) as client:
        found = client.recommend(history=[])
    return found.item_ids[0][0], found.version


def test_switching_under_load_loses_no_request(
    endpoint: EmbeddedEndpoint, make: Callable[[str], Path]
) -> None:
    with pytest.raises(NothingToServe, match="kuberec run"):
        endpoint.ensure_running()
    first = roll(endpoint, make(A))
    assert (first["version"], first["previous"], first["reused"]) == (A, None, False)
    asked = [row["name"] for row in first["rows"] if row["name"].startswith("ONNX as served → ")]
    assert len(asked) == 3 * 5  # limits, places
    assert len(first["rows"]) == len(asked) + 2  # by user id, and which version answers
    assert all(row["passed"] for row in first["rows"])
    with pytest.raises(NothingToServe, match="no earlier model version"):
        endpoint.rollback()
    sources = {version: make(version) for version in (B, C)}
    golden = {v: load_version(path).golden() for v, path in sources.items()}
    golden[A] = load_version(endpoint.home.versions / A).golden()
    with Load(endpoint.url, golden) as load:
        assert roll(endpoint, sources[B])["previous"] == A
        assert answer(endpoint) == ("b", B)
        before = time.perf_counter()
        assert endpoint.rollback() == A
        assert time.perf_counter() - before < 2  # no server has to start for it
        assert answer(endpoint) == ("a", A)
        assert endpoint.rollback() == B
        third = roll(endpoint, sources[C])
        time.sleep(0.2)
    assert load.errors == []
    assert load.wrong == []
    assert load.versions.keys() == {A, B, C}
    # The one before keeps running; the one before that is stopped, and its folder deleted.
    assert third["previous"] == B
    assert len(servers(endpoint)) == 4
    assert sorted(path.name for path in endpoint.home.versions.iterdir()) == [B, C]


def test_a_bad_version_leaves_the_old_one_serving(
    endpoint: EmbeddedEndpoint, make: Callable[[str], Path], tmp_path: Path
) -> None:
    good = make(A)
    roll(endpoint, good)
    pids = servers(endpoint)

    tampered = make(B)
    with (tampered / "decode/1/model.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(VersionError, match=r"changed: decode/1/model\.onnx"):
        roll(endpoint, tampered)

    wrong = write_tiny_repository(tmp_path / "wrong", catalogue(), seed=1)
    golden = golden_answers(wrong, REQUESTS)
    golden[2].item_ids[0] = "another"
    write_manifest(wrong, C, golden, {})
    with pytest.raises(
        RolloutStopped,
        match=r"before its first .*\n.*FAIL ONNX as served → own Triton: top-K overlap .* 0.95 ",
    ) as failed:
        roll(endpoint, wrong)
    assert [check["passed"] for check in failed.value.rollout.prepared] == [False, False, True]

    broken = write_tiny_repository(tmp_path / "broken", catalogue())
    config = broken / "recommend" / "configs" / f"{EMBEDDED}.pbtxt"
    config.write_text('name: "recommend" backend: "nothing"')
    with pytest.raises(VersionError, match=r"has no kuberec\.json"):
        roll(endpoint, broken)
    write_manifest(broken, B, golden_answers(broken, REQUESTS), {})
    with pytest.raises(RolloutStopped, match=r"(?s)Triton ended.*find backend.*'nothing'"):
        roll(endpoint, broken)

    assert answer(endpoint) == ("a", A)
    assert servers(endpoint) == pids
    again = roll(endpoint, good)
    assert again["reused"] is True
    assert servers(endpoint) == pids


def test_a_version_that_cannot_read_its_features_is_not_switched_to(
    endpoint: EmbeddedEndpoint, make: Callable[[str], Path]
) -> None:
    store = endpoint.home.root.parent / "feature_store"
    store.mkdir(parents=True)
    for name in ("registry.db", "online.db"):
        (store / name).write_bytes(b"damaged")
    with pytest.raises(GateFailed, match=r"FAIL .* by user id .*fallback_unavailable .*features"):
        roll(endpoint, make(A))
    assert servers(endpoint) == []
    assert endpoint.state().current is None


def test_a_failure_after_the_switch_turns_the_door_back(
    endpoint: EmbeddedEndpoint, make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    roll(endpoint, make(A))
    publish = EmbeddedEndpoint._publish

    def interrupted(self: EmbeddedEndpoint, state: State, weights: dict[str, int]) -> None:
        publish(self, state, weights)
        (version,) = [each for each, share in weights.items() if share == 100]
        assert answer(endpoint) == (version[0], version)
        if version == until:
            raise KeyboardInterrupt

    monkeypatch.setattr(EmbeddedEndpoint, "_publish", interrupted)
    until, one_step = B, endpoint.config.model_copy(update={"rollout": quick_rollout(100)})
    with pytest.raises(RolloutStopped, match="Ctrl-C"):
        rollout(make(B), endpoint.home.root.parent, one_step)
    assert answer(endpoint) == ("a", A)
    assert (endpoint.state().current, endpoint.state().previous) == (A, None)
    assert len(servers(endpoint)) == 2

    # Without anything that runs there is no canary: what was stopped stays so.
    endpoint.stop_all()
    with pytest.raises(KeyboardInterrupt):
        roll(endpoint, endpoint.home.versions / B)
    assert servers(endpoint) == []
    assert (endpoint.state().current, endpoint.state().gateway) == (A, None)


def test_survives_its_starter_and_comes_back_when_killed(
    endpoint: EmbeddedEndpoint, make: Callable[[str], Path]
) -> None:
    script = (
        "import sys; from pathlib import Path; "
        "from serving.rollout.embedded.rollout import rollout; "
        "from serving.settings import ServingConfig; rollout(Path(sys.argv[1]), Path(sys.argv[2]),"
        "ServingConfig(port=int(sys.argv[3]), admin_port=int(sys.argv[4])))"
    )
    config = endpoint.config
    arguments = [str(make(A)), str(endpoint.home.root.parent), config.port, config.admin_port]
    subprocess.run([sys.executable, "-c", script, *map(str, arguments)], check=True, timeout=60)
    assert answer(endpoint) == ("a", A)
    before = endpoint.status()
    assert before["serving"]
    assert endpoint.ensure_running() == before

    ports = endpoint.state().replicas[A].backend
    for part in before["current"]["parts"].values():
        os.kill(part["pid"], signal.SIGKILL)
    os.kill(before["gateway_pid"], signal.SIGKILL)
    segments = f"{endpoint.state().replicas[A].triton.shm_prefix}*"
    stub_argument = endpoint.home.versions / A / "recommend/1/model.onnx"
    while endpoint.status()["gateway_pid"]:
        time.sleep(0.02)
    assert not endpoint.status()["serving"]
    after = endpoint.ensure_running()
    assert after["serving"]
    assert endpoint.state().replicas[A].backend == ports
    assert answer(endpoint) == ("a", A)
    assert not list(Path("/dev/shm").glob(segments))

    # Only a stub process, which Triton does not notice by itself; the door stays open.
    os.kill(find("triton_python_backend_stub", str(stub_argument))[0][0].pid, signal.SIGKILL)
    assert not endpoint.status()["serving"]
    endpoint.ensure_running()
    assert answer(endpoint) == ("a", A)
    mended = endpoint.status()
    assert mended["gateway_pid"] == after["gateway_pid"]
    parts, earlier = mended["current"]["parts"], after["current"]["parts"]
    assert parts["transformer"] == earlier["transformer"]
    assert parts["triton"]["pid"] != earlier["triton"]["pid"]

    segments = f"{endpoint.state().replicas[A].triton.shm_prefix}*"
    endpoint.stop_all()
    assert leftovers(endpoint) == []
    assert not list(Path("/dev/shm").glob(segments))
    assert endpoint.status()["current"] == {
        "version": A,
        "percent": 100,
        "ready": False,
        "parts": {},
    }
    endpoint.stop_all()


def test_new_settings_reach_a_version_that_serves_without_a_lost_request(
    endpoint: EmbeddedEndpoint, make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(A)
    roll(endpoint, source)
    before = endpoint.status()["current"]["parts"]
    settings = TransformerConfig(max_ids=14)
    home = endpoint.home.root.parent
    config = endpoint.config.model_copy(update={"transformer": settings})
    with Load(endpoint.url, {A: load_version(source).golden()}) as load:
        assert rollout(source, home, config)["reused"]
        assert load_settings(home) == config
        time.sleep(0.2)
    assert (load.errors, load.wrong) == ([], [])
    after = EmbeddedEndpoint(home, config).status()["current"]["parts"]
    assert after["triton"] == before["triton"]
    assert len(servers(endpoint)) == 2  # the transformer with the old settings is gone
    with (
        RecommendClient(endpoint.url) as client,
        pytest.raises(RecommendError, match="14") as error,
    ):
        client.recommend(history=["a-1"] * 15)
    assert error.value.code == "INVALID_ARGUMENT"

    monkeypatch.setenv("KUBEREC_TRANSFORMER_ENV", str(home / "nowhere"))
    with pytest.raises(RolloutStopped, match=r"'.*nowhere': run `make install`, or name its"):
        roll(endpoint, make(B))
    assert load_settings(home) == config  # those of what serves
    assert answer(endpoint) == ("a", A)
    assert len(servers(endpoint)) == 2


def test_port_taken_is_explained_before_any_work(
    endpoint: EmbeddedEndpoint, make: Callable[[str], Path]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", endpoint.config.port))
        other.listen()
        with pytest.raises(PortTaken) as error:
            roll(endpoint, make(A))
    assert str(error.value).startswith(
        f"port {endpoint.config.port} is taken by pid {os.getpid()} (python"
    )
    assert str(error.value).endswith("choose another with serving.port")
    assert not endpoint.home.versions.exists()
