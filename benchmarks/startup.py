"""From a process's start to its READY, each part alone on the machine."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.subject import Subject
from benchmarks.systems import start_peer
from serving.embedded.transformer import (
    TransformerPorts,
    launch_transformer,
    wait_for_transformer,
)
from serving.ports import free_ports
from serving.process import stop
from serving.settings import ServingConfig
from serving.triton.server import start_triton


def seconds_to_ready(subject: Subject, config: ServingConfig, repeats: int) -> dict[str, float]:
    """Median seconds to READY of Triton, of a transformer whose Triton is ready, and of the peer.

    The files have been read before: the first start counts as well, but is hardly ever the median.
    """
    taken: dict[str, list[float]] = {"Triton": [], "transformer": [], "peer": []}
    quiet: Callable[[str], None] = lambda message: None  # noqa: E731
    version = subject.version.directory
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(prefix="kuberec-bench-") as folder:
            work = Path(folder)
            began = time.perf_counter()
            triton = start_triton(version, work, work / "triton.log")
            taken["Triton"].append(time.perf_counter() - began)
            try:
                ports = TransformerPorts(*free_ports(3))
                began = time.perf_counter()
                transformer = launch_transformer(
                    version,
                    ports,
                    triton.grpc_port,
                    subject.feature_store,
                    config.transformer,
                    work / "settings.json",
                    work / "transformer.log",
                )
                try:
                    wait_for_transformer(transformer, config.start_timeout_s, quiet)
                    taken["transformer"].append(time.perf_counter() - began)
                finally:
                    transformer.stop()
            finally:
                triton.stop()
            began = time.perf_counter()
            peer, _ = start_peer(subject, work / "peer.log")
            taken["peer"].append(time.perf_counter() - began)
            stop(peer)
    return {part: statistics.median(values) for part, values in taken.items()}
