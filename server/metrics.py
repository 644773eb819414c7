"""Metrics of the gateway, and the timings of each response.

REFERENCE.md lists them (`make docs` writes it).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.engine.protocol import EngineAdapters

_MERGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_LOAD_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The gateway's Prometheus metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "weft_requests", "Requests answered.", ["route", "status"], registry=self.registry
        )
        self._merges = Counter(
            "weft_merges", "Merges by method and outcome.", ["method", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self._merge_hits = Counter(
            "weft_merge_hits", "Compositions that were already merged.", registry=self.registry
        )
        self._merge_seconds = Histogram(
            "weft_merge_seconds", "Duration of a merge, including the wait in the queue.",
            buckets=_MERGE_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._load_seconds = Histogram(
            "weft_load_seconds", "Duration of loading an artifact into the engine.",
            buckets=_LOAD_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._artifact_bytes = Gauge(
            "weft_artifact_bytes", "Bytes of artifacts on disk.", registry=self.registry
        )
        self._engine_up = Gauge(
            "weft_engine_up", "1 while the engine accepts requests, else 0.", registry=self.registry
        )
        self._engine_known = Gauge(
            "weft_engine_known", "Adapters that the engine has registered.", registry=self.registry
        )
        self._engine_resident = Gauge(
            "weft_engine_resident", "Adapters in the engine's memory.", registry=self.registry
        )
        self._leases = Gauge(
            "weft_leases", "Requests that use an artifact.", registry=self.registry
        )

    def request(self, route: str, status: int) -> None:
        """Count a request that was answered."""
        self._requests.labels(route, str(status)).inc()

    @contextmanager
    def building(self, method: str) -> Iterator[None]:
        """Time a merge and count its outcome."""
        started = time.perf_counter()
        try:
            yield
        except BaseException:
            self._merges.labels(method, "failed").inc()
            raise
        self._merges.labels(method, "done").inc()
        self._merge_seconds.observe(time.perf_counter() - started)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Time a load."""
        with self._load_seconds.time():
            yield

    def merge_hit(self) -> None:
        """Count a composition that needed no merge."""
        self._merge_hits.inc()

    def artifact_bytes(self, nbytes: int) -> None:
        """Record the size of the artifact store."""
        self._artifact_bytes.set(nbytes)

    def render(self, adapters: EngineAdapters | None, *, leases: int) -> bytes:
        """Return all metrics in Prometheus' text format; `adapters` is None without an engine."""
        self._engine_up.set(adapters is not None)
        self._engine_known.set(len(adapters.known) if adapters else 0)
        self._engine_resident.set(len(adapters.resident) if adapters else 0)
        self._leases.set(leases)
        return bytes(generate_latest(self.registry))


class Timings:
    """Seconds by stage of one request, for its `Server-Timing` header."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of a `with` block to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent

    def header(self) -> str:
        """Return the value of `Server-Timing`: milliseconds by stage."""
        return ", ".join(f"{stage};dur={1000 * s:.1f}" for stage, s in self.seconds.items())


_ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/ready", "/metrics")


class CountRequests:
    """Middleware that counts every response; unknown paths share one label."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count the status of its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in _ROUTES else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.request(route, message["status"])
            await send(message)

        await self._app(scope, receive, counted)
