"""A transformer on a real Triton and a small store, with a side door, and ways to ask it."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from feature_stores import sqlite_store
from tiny_endpoint import HISTORIES, VERSION
from tiny_version import catalogue, write_tiny_version
from wire import INFER, Answer, Wire, rest_request, tensor

from serving.embedded.transformer import (
    TransformerPorts,
    TransformerServer,
    launch_transformer,
    wait_for_transformer,
)
from serving.ports import free_ports
from serving.settings import TransformerConfig
from serving.triton.server import TritonServer, temporary_triton

# These tell what the machine does, whoever asks.
OF_THE_MACHINE = ("kuberec_feature_lookup_seconds", "kuberec_predictor_rows")
QUICK = TransformerConfig(predictor_timeout_s=1.0, lookup_timeout_s=5.0)


class Parts(NamedTuple):
    """What a transformer is started on."""

    version: Path
    store: Path
    triton: TritonServer
    folder: Path


@contextmanager
def parts_of(folder: Path, items: int = 12) -> Iterator[Parts]:
    version = write_tiny_version(folder / VERSION, catalogue(items), VERSION)
    store = sqlite_store(folder / "store", HISTORIES)
    with temporary_triton(version, folder / "t") as triton:
        yield Parts(version, store, triton, folder)


@contextmanager
def transformer(
    parts: Parts, config: TransformerConfig = QUICK, side_door: bool = True
) -> Iterator[TransformerServer]:
    server = launch_transformer(
        parts.version,
        TransformerPorts(*free_ports(3 if side_door else 2)),
        parts.triton.grpc_port,
        parts.store,
        config,
        parts.folder / "settings.json",
        parts.folder / "transformer.log",
    )
    try:
        wait_for_transformer(server, 60, lambda message: None)
        yield server
    finally:
        server.stop()


def ask(url: str, body: Any, path: str = INFER) -> Answer:
    with Wire(url) as wire:
        return wire.rest(body, path=path)


def get(url: str, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://{url}{path}", timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def sample(server: TransformerServer, query: str = "") -> list[dict[str, Any]]:
    status, answer = get(server.side_url, f"/requests{query}")
    assert status == 200
    return list(answer["requests"])


def numbers(server: TransformerServer) -> dict[str, float]:
    """Every metric of the transformer's own, but those of the machine."""
    with urllib.request.urlopen(f"http://{server.http_url}/metrics") as response:
        lines = response.read().decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if line.startswith("kuberec_")]
    return {name: float(value) for name, _, value in pairs if not name.startswith(OF_THE_MACHINE)}


def users(*names: str) -> Any:
    return tensor("user_id", [len(names)], list(names))


def ids(name: str, *rows: list[str]) -> Any:
    return tensor(name, [len(rows), len(rows[0])], [each for row in rows for each in row])


K_2 = tensor("k", [1], [2], "INT64")
REQUESTS = {
    "user": rest_request(users("196")),
    "batch": rest_request(users("196", "ü2", "nobody")),
    "history": rest_request(ids("history", ["item-5", "item-2"])),
    "all of it": rest_request(users("196"), ids("history", ["item-7"]), ids("exclude", ["a"]), K_2),
}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
