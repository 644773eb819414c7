"""The counters, and the header with a request's stages."""

import asyncio
import re

import pytest
from httpx import AsyncClient

from server.engine.fake import FakeEngine
from server.gateway import Gateway
from server.telemetry import record
from server.telemetry.metrics import NAMESPACES, Metrics, Timings
from server.telemetry.recent_requests import outcome_of

NAMES = {
    "weft_requests_total", "weft_merges_total", "weft_merge_hits_total", "weft_merge_seconds",
    "weft_load_seconds", "weft_artifact_bytes", "weft_engine_up", "weft_engine_known",
    "weft_engine_resident", "weft_leases", "weft_request_seconds", "weft_first_token_seconds",
    "weft_resolve_seconds", "weft_queue_seconds", "weft_merge_misses_total",
    "weft_evictions_total", "weft_namespace_requests_total", "weft_namespace_tokens_total",
    "weft_builds_running", "weft_builds_waiting", "weft_body_bytes", "weft_engine_restarts_total",
    "weft_engines", "weft_engine_lost_requests_total",
    "weft_pool_calls", "weft_pool_limit", "weft_slots_total", "weft_slot_bytes_total",
    "vllm:lora_adapter_loaded",
}  # fmt: skip


async def metrics(client: AsyncClient) -> dict[str, float]:
    """Return every sample by name and labels."""
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_every_metric_has_its_name() -> None:
    """Operators depend on these names, so that a change of one breaks an interface."""
    text = Metrics().render().decode()
    samples = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert {name for name in samples if not name.endswith("_created")} == NAMES


async def test_a_request_shows_in_the_metrics(
    client: AsyncClient, gateway: Gateway, engine: FakeEngine
) -> None:
    """Two requests for one composition are two answers, one merge, one hit, one load, and bytes
    on disk.
    """
    for _ in range(2):
        await client.post("/v1/completions", json={"model": "cat(zorp, blim)", "prompt": ""})
    await gateway.evictor.shrink()
    samples = await metrics(client)
    assert samples['weft_requests_total{route="/v1/completions",status="200"}'] == 2
    assert samples['weft_merges_total{method="cat",outcome="done"}'] == 1
    assert samples["weft_merge_hits_total"] == 1
    method, outcome = 'method="cat"', 'outcome="done"'
    assert samples[f"weft_merge_seconds_count{{{method},{outcome}}}"] == 1
    assert samples[f"weft_queue_seconds_count{{{method}}}"] == 1
    assert samples[f"weft_load_seconds_count{{{outcome}}}"] == 1
    assert samples["weft_merge_misses_total"] == 1
    assert samples['weft_resolve_seconds_count{kind="cat",outcome="done"}'] == 2
    assert samples['weft_first_token_seconds_count{kind="cat"}'] == 2
    assert samples['weft_request_seconds_count{outcome="done",route="/v1/completions"}'] == 2
    assert samples['weft_namespace_requests_total{namespace="(none)",outcome="done"}'] == 2
    assert samples['weft_namespace_tokens_total{kind="prompt",namespace="(none)"}'] == 10
    (digest,) = engine.loaded
    loaded = f'vllm:lora_adapter_loaded{{adapter_name="{digest}",level="cpu",pinned="false"}}'
    assert samples[loaded] == 1
    assert samples["weft_artifact_bytes"] == gateway.artifacts.nbytes() > 0
    assert (samples["weft_engine_up"], samples["weft_leases"]) == (1, 0)
    assert (samples["weft_engine_known"], samples["weft_engine_resident"]) == (1, 1)
    engine.up = False
    away = await metrics(client)
    assert (0, 0, 0) == (
        away["weft_engine_up"], away["weft_engine_known"], away["weft_engine_resident"],
    )  # fmt: skip


async def test_a_refused_merge_is_counted_as_failed(client: AsyncClient) -> None:
    """An unsafe merge counts as failed, and its time is not mixed with those that are done."""
    await client.post("/v1/completions", json={"model": "cat(1e4*zorp)", "prompt": ""})
    samples = await metrics(client)
    assert samples['weft_merges_total{method="cat",outcome="failed"}'] == 1
    assert samples['weft_merge_seconds_count{method="cat",outcome="failed"}'] == 1
    assert samples['weft_resolve_seconds_count{kind="cat",outcome="refused"}'] == 1


async def test_leases_are_those_held_now(client: AsyncClient, gateway: Gateway) -> None:
    """The gauge reads the current number of leases."""
    async with gateway.leases.hold("a" * 64):
        assert (await metrics(client))["weft_leases"] == 1


async def test_unknown_paths_share_a_label(client: AsyncClient) -> None:
    """Requests for unknown paths create no new labels."""
    for n in range(5):
        await client.get(f"/v1/{n}")
    samples = await metrics(client)
    assert samples['weft_requests_total{route="other",status="404"}'] == 5


def test_timings_add_up_by_stage() -> None:
    """A stage measured twice is one number, in the order of first use, in milliseconds."""
    timings = Timings()
    for stage in ("load", "engine", "load"):
        with timings.measure(stage):
            pass
    timings.seconds = dict.fromkeys(timings.seconds, 0.0125)
    assert timings.header() == "load;dur=12.5, engine;dur=12.5"


def test_a_stage_that_fails_is_measured_too() -> None:
    """The time of a failed stage counts."""
    timings = Timings()
    with pytest.raises(ZeroDivisionError), timings.measure("merge"):
        raise ZeroDivisionError
    assert ["merge"] == list(timings.seconds)


async def test_metrics_do_not_wait_for_a_hung_engine(
    client: AsyncClient, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape is answered within seconds even if the engine hangs, and reports it as down."""

    async def hang() -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(engine, "adapters", hang)
    async with asyncio.timeout(5):
        response = await client.get("/metrics")
    assert "weft_engine_up 0.0" in response.text


def test_namespaces_are_bounded() -> None:
    """However many namespaces ask, they make a limited number of series; tokens are counted."""
    metrics = Metrics()
    for n in range(NAMESPACES + 50):
        record.begin(None)
        record.note(caller="ci", namespace=f"team-{n}")
        record.note_tokens(3, 2)
        metrics.ended("/v1/completions", 200, 0.1)
    text = metrics.render().decode()
    series = re.findall(r'^weft_namespace_tokens_total\{kind="prompt",.*', text, re.MULTILINE)
    assert len(series) == NAMESPACES + 1
    assert 'weft_namespace_tokens_total{kind="completion",namespace="(other)"} 100.0' in text


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "done"), (404, "refused"), (429, "refused"), (503, "failed"), (0, "left")],
)
def test_outcomes(status: int, outcome: str) -> None:
    """Every status has one of four outcomes; without a status the client has left."""
    assert outcome == outcome_of(status)


async def test_what_runs_now(client: AsyncClient, gateway: Gateway, engine: FakeEngine) -> None:
    """Restarts of the engine, calls in pools and bytes of bodies are those of the moment."""
    engine.generation = 3
    gateway.bodies.take(10)
    samples = await metrics(client)
    assert (2, 10) == (samples["weft_engine_restarts_total"], samples["weft_body_bytes"])
    assert samples['weft_pool_limit{pool="resolving"}'] > 0
    assert samples['weft_pool_calls{pool="search"}'] == 0


async def test_evictions(client: AsyncClient, gateway: Gateway) -> None:
    """Removed artifacts are counted."""
    await client.post("/v1/completions", json={"model": "cat(zorp, blim)", "prompt": ""})
    await gateway.evictor.shrink(0)
    assert (await metrics(client))["weft_evictions_total"] == 1
