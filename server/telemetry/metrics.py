"""Metrics of the gateway, and the timings of each response.

REFERENCE.md lists them (`make docs` writes it). Labels have few values: methods, routes, classes of
status, and at most `NAMESPACES` namespaces.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.inference import INFERENCE_PATHS
from server.telemetry import record, spans
from server.telemetry.live import NOTHING, Live, LiveMetrics
from server.telemetry.recent_requests import RecentRequests, outcome_of

NAMESPACES = 200
_OTHER, _NONE = "(other)", "(none)"
_ROUTES = frozenset({*INFERENCE_PATHS, "/v1/models", "/health", "/ready", "/metrics"})
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_MERGE = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_ANSWER = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The gateway's Prometheus metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # The same numbers for who asks this gateway rather than Prometheus.
        self.hits = self.misses = self.loads = self.stored_bytes = 0
        self._live = LiveMetrics()
        self.registry.register(self._live)
        self._namespaces: set[str] = set()
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._requests = counter("weft_requests", "Requests answered.", ["route", "status"])
        self._request_seconds = histogram(
            "weft_request_seconds", "Duration of a request, from its head to its last byte.",
            ["route", "outcome"], buckets=_ANSWER,
        )  # fmt: skip
        self._first_token_seconds = histogram(
            "weft_first_token_seconds",
            "Time from the head of a request for inference to the first byte of its answer.",
            ["kind"], buckets=_ANSWER,
        )  # fmt: skip
        self._resolve_seconds = histogram(
            "weft_resolve_seconds", "Duration of finding out what `model` means.",
            ["kind", "outcome"], buckets=_FAST,
        )  # fmt: skip
        self._queue_seconds = histogram(
            "weft_queue_seconds", "Time that a merge waited for a worker.", ["method"],
            buckets=_MERGE,
        )  # fmt: skip
        self._merges = counter("weft_merges", "Merges that were begun.", ["method", "outcome"])
        self._merge_seconds = histogram(
            "weft_merge_seconds", "Duration of a merge without the wait for a worker.",
            ["method", "outcome"], buckets=_MERGE,
        )  # fmt: skip
        self._merge_hits = counter("weft_merge_hits", "Compositions that were already merged.")
        self._merge_misses = counter("weft_merge_misses", "Compositions that had to be merged.")
        self._load_seconds = histogram(
            "weft_load_seconds", "Duration of loading an artifact into the engine.", ["outcome"],
            buckets=_FAST,
        )  # fmt: skip
        self._slots = counter(
            "weft_slots", "Adapters loaded into a slot of the engine for a request.", ["kind"]
        )
        self._slot_bytes = counter("weft_slot_bytes", "Bytes of these adapters.", ["kind"])
        self._evictions = counter("weft_evictions", "Artifacts removed from disk and engine.")
        self._artifact_bytes = Gauge(
            "weft_artifact_bytes", "Bytes of artifacts on disk.", registry=self.registry
        )
        self._namespace_requests = counter(
            "weft_namespace_requests", "Requests for inference by the namespace of their key.",
            ["namespace", "outcome"],
        )  # fmt: skip
        self._namespace_tokens = counter(
            "weft_namespace_tokens", "Tokens of prompts and completions by namespace.",
            ["namespace", "kind"],
        )  # fmt: skip

    def request(self, route: str, status: int) -> None:
        """Count a request whose answer begins."""
        self._requests.labels(route, str(status)).inc()

    def ended(self, route: str, status: int, seconds: float) -> None:
        """Time a request that has ended; status 0: its client left before the answer began."""
        outcome = outcome_of(status)
        self._request_seconds.labels(route, outcome).observe(seconds)
        request = record.current()
        if route not in INFERENCE_PATHS or request is None or request.caller is None:
            return
        namespace = self._namespace(request.namespace)
        self._namespace_requests.labels(namespace, outcome).inc()
        self._namespace_tokens.labels(namespace, "prompt").inc(request.prompt_tokens)
        self._namespace_tokens.labels(namespace, "completion").inc(request.completion_tokens)
        if "resolve" in request.stages:
            resolve = self._resolve_seconds.labels(request.kind, outcome)
            resolve.observe(request.stages["resolve"])

    def first_token(self, seconds: float) -> None:
        """Time the first byte of an answer to this task's request."""
        request = record.current()
        kind = request.kind if request is not None else record.UNRESOLVED
        self._first_token_seconds.labels(kind).observe(seconds)

    @contextmanager
    def queued(self, method: str) -> Iterator[None]:
        """Time the wait of a merge for a worker, unless it is given up."""
        started = time.perf_counter()
        yield
        self._queue_seconds.labels(method).observe(time.perf_counter() - started)

    @contextmanager
    def building(self, method: str) -> Iterator[None]:
        """Time a merge and count its outcome."""
        started = time.perf_counter()
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            self._merges.labels(method, outcome).inc()
            seconds = time.perf_counter() - started
            self._merge_seconds.labels(method, outcome).observe(seconds)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Time a load."""
        started = time.perf_counter()
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            self._load_seconds.labels(outcome).observe(time.perf_counter() - started)

    def merge_hit(self) -> None:
        """Count a composition that needed no merge."""
        self.hits += 1
        self._merge_hits.inc()

    def merge_miss(self) -> None:
        """Count a composition that had to be merged."""
        self.misses += 1
        self._merge_misses.inc()

    def slot_taken(self, kind: str, nbytes: int) -> None:
        """Count an adapter that was loaded for a request: a `composition` or a `stored` one."""
        self.loads += 1
        self._slots.labels(kind).inc()
        self._slot_bytes.labels(kind).inc(nbytes)

    def evicted(self) -> None:
        """Count an artifact that was removed."""
        self._evictions.inc()

    def artifact_bytes(self, nbytes: int) -> None:
        """Record the size of the artifact store."""
        self.stored_bytes = nbytes
        self._artifact_bytes.set(nbytes)

    def render(self, live: Live = NOTHING) -> bytes:
        """Return all metrics in Prometheus' text format, those of the moment from `live`."""
        self._live.show(live)
        return bytes(generate_latest(self.registry))

    def _namespace(self, namespace: str | None) -> str:
        """Return the label of a namespace: its name, unless there are too many already."""
        if not namespace:
            return _NONE
        if namespace not in self._namespaces:
            if len(self._namespaces) >= NAMESPACES:
                return _OTHER
            self._namespaces.add(namespace)
        return namespace


class Timings:
    """Seconds by stage of one request, for its `Server-Timing` header, and the slot it took."""

    def __init__(self) -> None:
        self.new_slot = False  # whether its adapter was loaded for it
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of a `with` block to `stage`."""
        started = time.perf_counter()
        try:
            with spans.span(stage):
                yield
        finally:
            spent = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
            record.note_stage(stage, spent)

    def header(self) -> str:
        """Return the value of `Server-Timing`: milliseconds by stage."""
        return ", ".join(f"{stage};dur={1000 * s:.1f}" for stage, s in self.seconds.items())


class CountRequests:
    """Middleware that counts and times every response; unknown paths share one label.

    Requests for inference are remembered for a while.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, recent: RecentRequests) -> None:
        self._app, self._metrics, self._recent = app, metrics, recent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and observe its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in _ROUTES else "other"
        started, status, waiting = time.perf_counter(), 0, False
        first_byte: float | None = None

        async def counted(message: Message) -> None:
            nonlocal status, waiting, first_byte
            if message["type"] == "http.response.start":
                status = message["status"]
                self._metrics.request(route, status)
                waiting = status == 200 and route in INFERENCE_PATHS
            elif waiting and message.get("body"):
                waiting = False
                first_byte = time.perf_counter() - started
                self._metrics.first_token(first_byte)
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:
            status = status or 500  # Starlette answers it
            raise
        finally:
            seconds = time.perf_counter() - started
            self._metrics.ended(route, status, seconds)
            if route in INFERENCE_PATHS:
                self._recent.add(route, status, seconds, first_byte)
