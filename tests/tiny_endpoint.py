"""A whole endpoint in miniature: Envoy, transformer, Triton, a tiny version, a small store."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feature_stores import Histories, sqlite_store
from tiny_version import catalogue, write_tiny_version

from recommender.files import write_json
from serving.embedded.endpoint import EmbeddedEndpoint
from serving.ports import free_ports
from serving.settings import ServingConfig

VERSION = "v1"  # whose FeatureService the store has
MAX_BATCH_SIZE = ServingConfig().triton.max_batch_size
_YESTERDAY = datetime.now(UTC) - timedelta(days=1)
HISTORIES: Histories = {
    "196": (["item-1", "item-2", "item-3"], _YESTERDAY),
    "ü2": (["item-9", "gone", "item-4"], _YESTERDAY),
}


@contextmanager
def tiny_endpoint(folder: Path) -> Iterator[EmbeddedEndpoint]:
    """Serving, on free ports; stopped when the block ends."""
    version = write_tiny_version(folder / VERSION, catalogue(), VERSION)
    store = sqlite_store(folder / "home" / "feature_store", HISTORIES)
    write_json(store / "versions.json", [VERSION])
    port, admin_port = free_ports(2)
    endpoint = EmbeddedEndpoint(folder / "home", ServingConfig(port=port, admin_port=admin_port))
    try:
        endpoint.install(version)
        endpoint.switch(VERSION)
        yield endpoint
    finally:
        endpoint.stop_all()
