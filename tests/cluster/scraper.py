"""A Prometheus of the tests' own."""

import contextlib
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from recommender.files import write_json
from serving.ports import free_ports


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """A Prometheus that scrapes what folder/targets.json lists, twice a second."""
    write_json(folder / "targets.json", [])
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms"},
        "scrape_configs": [
            {
                "job_name": "pods",
                "file_sd_configs": [
                    {"files": [str(folder / "targets.json")], "refresh_interval": "5s"}
                ],
            }
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    command = [
        str(shutil.which("prometheus")),
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/-/ready", timeout=1).close()
                break
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            assert time.monotonic() < deadline, "Prometheus does not get ready"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)
