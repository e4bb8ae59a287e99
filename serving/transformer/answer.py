"""One request from its decoded form to its answer or its failure, whichever wire it came by."""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kserve import InferRequest
from kserve.errors import (
    InferenceError,
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServerNotReady,
)
from kserve.protocol.dataplane import DataPlane

from serving.transformer import metrics
from serving.transformer.errors import RequestFailed
from serving.transformer.tracing import Tracing

log = logging.getLogger(__name__)


class Answerer:
    """Asks kserve's data plane; refuses versions that this process does not serve."""

    def __init__(self, dataplane: DataPlane, version: str, tracing: Tracing) -> None:
        self._dataplane, self._version, self._tracing = dataplane, version, tracing

    async def answer(
        self, model: str, version: str, request: InferRequest, headers: Mapping[str, str]
    ) -> Any:
        """What RecommendModel.postprocess gives.

        Raises:
            RequestFailed, or what `failure` makes one of.
        """
        self.require_version(version)
        with self._tracing.request("recommend", headers):
            response, _ = await self._dataplane.infer(model, request, dict(headers))
            return response

    def require_version(self, version: str) -> None:
        """Raise RequestFailed (NOT_FOUND) for another version than the one that serves."""
        if version not in ("", self._version):
            raise RequestFailed(
                f"model version {version!r:.60} is not served here; allowed: {self._version}, "
                "or none, for the one that serves",
                "NOT_FOUND",
            )

    @contextmanager
    def counted(self, protocol: str) -> Iterator[None]:
        """Count and time a client's request, with the status that it ends with."""
        code, began = "OK", time.perf_counter()
        in_flight = metrics.REQUESTS_IN_FLIGHT.labels(protocol)
        in_flight.inc()
        try:
            yield
        except asyncio.CancelledError:  # the client went away, or its deadline passed
            code = "CANCELLED"
            raise
        except Exception as error:
            code = failure(error, quiet=True).code
            raise
        finally:
            in_flight.dec()
            metrics.REQUESTS.labels(protocol, code).inc()
            metrics.SECONDS[protocol].observe(time.perf_counter() - began)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Keep a request that is no client's out of what is counted of theirs."""
        token = metrics.of_client.set(False)
        try:
            yield
        finally:
            metrics.of_client.reset(token)


def failure(error: Exception, quiet: bool = False) -> RequestFailed:
    """Every exception as one that says what to tell the client; unforeseen ones are logged."""
    if isinstance(error, RequestFailed):
        return error
    if isinstance(error, ModelNotFound):
        return RequestFailed(f"{error} /v2/models lists what is served.", "NOT_FOUND")
    if isinstance(error, InvalidInput | InferenceError):
        return RequestFailed(str(error), "INVALID_ARGUMENT")
    if isinstance(error, ModelNotReady | ServerNotReady):
        return RequestFailed(f"{error} Triton is not answering (yet)", "UNAVAILABLE")
    if not quiet:
        log.error("an unforeseen failure", exc_info=error)
    return RequestFailed(
        f"an unforeseen failure ({type(error).__name__}); the transformer's log has it", "INTERNAL"
    )
