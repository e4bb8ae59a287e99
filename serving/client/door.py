"""Where an endpoint is reached, as one value that can be handed on."""

from collections.abc import Mapping
from typing import NamedTuple

from serving.client.blocking import RecommendClient
from serving.client.retries import RetryPolicy


class Door(NamedTuple):
    """An address that answers, and what to send along."""

    address: str  # host:port
    host: str | None = None  # the endpoint's name, where the address is a gateway's
    headers: Mapping[str, str] = {}
    tls: bool = False

    def client(self, timeout_s: float, retries: RetryPolicy | None = None) -> RecommendClient:
        url = f"https://{self.address}" if self.tls else self.address
        return RecommendClient(url, timeout_s, retries, authority=self.host, headers=self.headers)
