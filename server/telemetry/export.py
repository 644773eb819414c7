"""Sends spans to an OpenTelemetry collector, with OTLP over HTTP (the extra `otel`).

The SDK's own OTEL_* variables apply: sampling, headers, the name of the service.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from server.telemetry import spans
from server.telemetry.spans import Attributes

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_PATH = "/v1/traces"


class TracingUnavailable(OSError):
    """The extra `otel` is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "WEFT_OTLP_ENDPOINT needs the extra otel: run `pip install 'weft[otel]'`, or unset it"
        )


@contextmanager
def exported_spans(endpoint: str | None) -> Iterator[None]:
    """Send the spans of a `with` block to the collector at `endpoint`; None: make none.

    Raises:
        TracingUnavailable: OpenTelemetry's SDK or exporter is not installed.
    """
    if endpoint is None:
        yield
        return
    tracer = _OtelTracer(endpoint.rstrip("/") + _PATH)
    spans.install(tracer)
    try:
        yield
    finally:
        spans.install(None)
        tracer.stop()


class _OtelTracer:
    """See `Tracer`. A thread of the SDK sends finished spans in batches."""

    def __init__(self, url: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise TracingUnavailable from error
        os.environ.setdefault("OTEL_SERVICE_NAME", "weft")
        self._api, self._headers = trace, TraceContextTextMapPropagator()
        self._provider = TracerProvider()
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url)))
        self._tracer = self._provider.get_tracer("weft")

    @contextmanager
    def span(self, name: str, parent: str | None) -> Iterator["_OtelSpan"]:
        """See `Tracer`. A span of a failed block names the error's class, never its message."""
        api = self._api
        context = self._headers.extract({"traceparent": parent}) if parent else None
        with self._tracer.start_as_current_span(
            name, context, api.SpanKind.SERVER if parent is not None else api.SpanKind.INTERNAL,
            record_exception=False, set_status_on_exception=False,
        ) as own:  # fmt: skip
            try:
                yield _OtelSpan(own)
            except BaseException as error:
                own.set_attribute("error.type", type(error).__qualname__)
                own.set_status(api.StatusCode.ERROR)
                raise

    def stop(self) -> None:
        """Send what is left, and end the thread."""
        self._provider.shutdown()


class _OtelSpan:
    """See `Span`."""

    def __init__(self, own: "Span") -> None:
        self._own = own

    def add(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._own.set_attributes(dict(attributes))
