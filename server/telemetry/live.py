"""Metrics that are read at each scrape: what runs, waits and is resident at that moment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from server.engine.protocol import EngineAdapters, together


@dataclass(frozen=True, slots=True)
class Live:
    """The state of a gateway at one moment."""

    up: bool = False  # whether an engine of every base answers
    adapters: EngineAdapters = together(())  # noqa: RUF009 - it is frozen
    engines: int = 0  # that take requests
    restarts: int = 0
    lost_requests: int = 0
    leases: int = 0
    builds_running: int = 0
    builds_waiting: int = 0
    body_bytes: int = 0
    pools: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # calls, and their limit


NOTHING = Live()


class LiveMetrics:
    """Collects the metrics of the moment that `show` was last called with."""

    def __init__(self) -> None:
        self._live = NOTHING

    def show(self, live: Live) -> None:
        """Collect from `live` from now on."""
        self._live = live

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        live = self._live
        known, resident = live.adapters.known, live.adapters.resident
        gauges: tuple[tuple[str, str, float], ...] = (
            ("engine_up", "1 while an engine of every base answers, else 0.", int(live.up)),
            ("engines", "Engines that take requests.", live.engines),
            ("engine_known", "Adapters that engines have registered.", len(known)),
            ("engine_resident", "Adapters in the memory of engines.", len(resident)),
            ("leases", "Requests that use an artifact.", live.leases),
            ("builds_running", "Merges that run in a worker.", live.builds_running),
            ("builds_waiting", "Merges that wait for a worker.", live.builds_waiting),
            ("body_bytes", "Bytes of request bodies in memory.", live.body_bytes),
        )  # fmt: skip
        for name, text, value in gauges:
            yield GaugeMetricFamily(f"weft_{name}", text, value=value)
        yield CounterMetricFamily(
            "weft_engine_restarts", "Times that an engine was started again.", value=live.restarts
        )
        yield CounterMetricFamily(
            "weft_engine_lost_requests", "Requests that an engine lost; another may have answered.",
            value=live.lost_requests,
        )  # fmt: skip
        yield from self._pools()
        yield self._residency(resident)

    def _pools(self) -> Iterator[Metric]:
        calls = GaugeMetricFamily(
            "weft_pool_calls", "Calls that run or wait in a pool of threads.", labels=["pool"]
        )
        limits = GaugeMetricFamily(
            "weft_pool_limit", "Calls at which a pool refuses further ones.", labels=["pool"]
        )
        for name, (running, limit) in self._live.pools.items():
            calls.add_metric([name], running)
            limits.add_metric([name], limit)
        yield calls
        yield limits

    def _residency(self, resident: frozenset[str]) -> Metric:
        """Yield vLLM's own series for residency, in the form of vllm-project/vllm#54830.

        Their number is limited by WEFT_MAX_CPU_LORAS. The plug-in sees the engine's memory, not
        which of its adapters have a slot on the GPU, and weft pins none there.
        """
        loaded = GaugeMetricFamily(
            "vllm:lora_adapter_loaded", "1 for each adapter in an engine's memory.",
            labels=["adapter_name", "level", "pinned"],
        )  # fmt: skip
        for digest in sorted(resident):
            loaded.add_metric([digest, "cpu", "false"], 1)
        return loaded
