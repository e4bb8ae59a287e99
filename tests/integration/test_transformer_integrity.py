"""A pod's transformer does not serve beside files that are not those of the version."""

from pathlib import Path

import pytest
from damage import DAMAGES
from tiny_version import catalogue, write_tiny_version

from serving.embedded.transformer import TransformerPorts, launch_transformer
from serving.ports import free_ports
from serving.process import wait_until_gone
from serving.settings import TransformerConfig

pytestmark = pytest.mark.timeout(120)


def test_a_changed_version_ends_it_with_the_file_named(tmp_path: Path) -> None:
    version = write_tiny_version(tmp_path / "v1", catalogue(), "v1")
    DAMAGES["one byte"].does(version)
    log = tmp_path / "log"
    ports = TransformerPorts(*free_ports(3))
    settings = tmp_path / "settings.json"
    server = launch_transformer(
        version, ports, free_ports(1)[0], tmp_path / "store", TransformerConfig(), settings, log
    )
    try:
        assert wait_until_gone(server.process, 90)
    finally:
        server.stop()
    assert DAMAGES["one byte"].says in log.read_text()
