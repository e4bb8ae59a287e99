"""What a Triton server has counted."""

import time
import urllib.request

from serving.triton.server import TritonServer

SETTLED_S = 0.2


def metric(server: TritonServer, name: str, model: str) -> float:
    """One of Triton's own counters, once it stands still; cache hits are no executions.

    Triton counts a request after it has answered it.
    """
    last, value = None, _read(server, name, model)
    while value != last:
        time.sleep(SETTLED_S)
        last, value = value, _read(server, name, model)
    return value


def _read(server: TritonServer, name: str, model: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as response:
        lines = response.read().decode().splitlines()
    prefix = name if name.startswith("nv_") else f"nv_inference_{name}"
    (line,) = [line for line in lines if line.startswith(f'{prefix}{{model="{model}"')]
    return float(line.split()[-1])
