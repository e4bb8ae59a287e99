"""What a Triton server has counted."""

import urllib.request

from serving.triton.server import TritonServer


def metric(server: TritonServer, name: str, model: str) -> float:
    """One of Triton's own counters; cache hits are no executions."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as response:
        lines = response.read().decode().splitlines()
    prefix = name if name.startswith("nv_") else f"nv_inference_{name}"
    (line,) = [line for line in lines if line.startswith(f'{prefix}{{model="{model}"')]
    return float(line.split()[-1])
