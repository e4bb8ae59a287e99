"""A full tritonserver on a machine with a GPU, for the lane of tests/tensorrt."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.ports import free_ports
from serving.triton.server import http_status

VARIABLE = "KUBEREC_GPU_TRITONSERVER"


@contextmanager
def gpu_triton(version: Path, variant: str, log: Path, *options: str) -> Iterator[dict[str, int]]:
    """Ports (http, grpc, metrics) of a server that has loaded a version's models.

    Args:
        variant: --model-config-name.
        log: what it prints.
    """
    server = os.environ.get(VARIABLE) or pytest.fail(f"name a full Triton's server in {VARIABLE}")
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    command = [
        server,
        f"--model-repository={version}",
        f"--model-config-name={variant}",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        *options,
        *(f"--{name}-port={port}" for name, port in ports.items()),
    ]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    try:
        while http_status(ports["http"], "/v2/health/ready") != 200:
            assert process.poll() is None, log.read_text(errors="replace")[-4000:]
        yield ports
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
