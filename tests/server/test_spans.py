"""Spans of a request, as an OpenTelemetry collector receives them."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from httpx import AsyncClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from server.engine.fake import FakeEngine
from server.telemetry import spans
from server.telemetry.export import TracingUnavailable, exported_spans

TRACE = "0af7651916cd43dd8448eb211c80319c"
PROMPT = "the-combination-of-the-safe-is-4711"


class Collector:
    """What a collector has received."""

    def __init__(self, port: int) -> None:
        self.url, self.requests = f"http://127.0.0.1:{port}/", list[ExportTraceServiceRequest]()

    @property
    def spans(self) -> list[Any]:
        """Every span."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            received.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            del args

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        received = Collector(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield received
        finally:
            server.shutdown()
            thread.join()


def by_name(collector: Collector) -> dict[str, Any]:
    """Return the spans that the collector has received by name."""
    return {span.name: span for span in collector.spans}


async def test_the_stages_of_a_request(client: AsyncClient, collector: Collector) -> None:
    """A request is a span with its id, caller and digest; resolve, merge, load and generate are
    below it, in the trace that the client began."""
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "r-1"}
    body = {"model": "cat(zorp, blim)", "prompt": PROMPT}
    with exported_spans(collector.url):
        answer = await client.post("/v1/completions", json=body, headers=headers)

    received = by_name(collector)
    root = received.pop("POST /v1/completions")
    assert {"resolve", "merge", "load", "generate", "engine"} == received.keys()
    assert {TRACE} == {span.trace_id.hex() for span in collector.spans}
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    stages = [received[name] for name in ("resolve", "merge", "load", "generate")]
    assert [root.span_id] * 4 == [stage.parent_span_id for stage in stages]
    begun = [stage.start_time_unix_nano for stage in stages]
    assert sorted(begun) == begun
    attributes = {item.key: item.value for item in root.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["request_id"].string_value == "r-1"
    assert attributes["model"].string_value == answer.headers["x-weft-artifact"]
    assert PROMPT not in str(collector.requests)


async def test_a_failed_stage_names_its_error(client: AsyncClient, collector: Collector) -> None:
    """A stage that fails has the class of the error and not its message."""
    with exported_spans(collector.url):
        await client.post("/v1/completions", json={"model": "cat(1e30*zorp)", "prompt": PROMPT})

    merge = by_name(collector).get("merge") or by_name(collector)["resolve"]
    attributes = {item.key: item.value.string_value for item in merge.attributes}
    assert attributes["error.type"]
    assert [] == list(merge.events)


async def test_a_missing_collector_stops_nothing(
    client: AsyncClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the collector is away, requests are answered as before."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with exported_spans("http://127.0.0.1:9"):
        answer = await client.post("/v1/completions", json={"model": "zorp", "prompt": "x"})
    assert answer.status_code == 200


def test_without_an_endpoint_there_is_no_span() -> None:
    """Without a collector every span is the same object, and OpenTelemetry is not imported."""
    with exported_spans(None):
        assert spans.span("a") is spans.span("b")
    loaded = "import sys, server.telemetry.access; print('opentelemetry' in sys.modules)"
    assert "False" == subprocess.check_output([sys.executable, "-c", loaded], text=True).strip()


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, an endpoint is an error that says what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingUnavailable, match=r"weft\[otel\]"), exported_spans("http://a"):
        raise AssertionError
