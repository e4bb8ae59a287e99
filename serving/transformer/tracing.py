"""OpenTelemetry spans, when OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) names a collector.

Spans join the trace of the request's `traceparent` header, and Triton is given theirs. The usual
OTEL_* variables apply (service name, sampler, headers).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
Metadata = Sequence[tuple[str, str]]


class Tracing:
    """Spans of one process; costs nothing where no endpoint is configured."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        """`attributes` describe this process: the model's name and version."""
        self._tracer: Any = None
        self._provider: Any = None
        if not any(os.environ.get(name) for name in _ENDPOINTS):
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        os.environ.setdefault("OTEL_SERVICE_NAME", "kuberec-transformer")
        self._provider = TracerProvider(resource=Resource.create(dict(attributes)))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("kuberec.transformer")

    def span(
        self, name: str, attributes: Mapping[str, Any] | None = None
    ) -> AbstractContextManager[Any]:
        """A span within the current one; an exception that leaves it is recorded."""
        if self._tracer is None:
            return nullcontext()
        return self._tracer.start_as_current_span(name, attributes=attributes)

    def request(self, name: str, headers: Mapping[str, str]) -> AbstractContextManager[Any]:
        """The server span of one request, continuing the trace in its headers."""
        return nullcontext() if self._tracer is None else self._request(name, headers)

    @contextmanager
    def _request(self, name: str, headers: Mapping[str, str]) -> Iterator[Any]:
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind

        attributes = {}
        if "x-request-id" in headers:
            attributes["kuberec.request_id"] = headers["x-request-id"]
        with self._tracer.start_as_current_span(
            name, context=extract(headers), kind=SpanKind.SERVER, attributes=attributes
        ) as span:
            yield span

    def outgoing(self, metadata: Metadata) -> Metadata:
        """gRPC metadata that carries the current span on, in place of the incoming trace."""
        if self._tracer is None:
            return metadata
        from opentelemetry.propagate import inject

        carrier: dict[str, str] = {}
        inject(carrier)
        return [pair for pair in metadata if pair[0] not in carrier] + list(carrier.items())

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()
