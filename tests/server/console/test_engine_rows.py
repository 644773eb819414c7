"""What engines hold and where requests spend their time, as rows and charts."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from server.console.api.engines import Engine, Engines, Request, Resident
from server.console.pages.engine.residency import Loaded, hidden, hit_share, loaded
from server.console.pages.engine.timings import error_counts, timing_options

NOW = datetime(2026, 11, 29, 18, 0, tzinfo=UTC)


def engine(*resident: Resident, **changes: Any) -> Engine:
    """Return an engine with these adapters in memory."""
    made = Engine(
        base="weft/demo-llama", name=None, available=True, restarts=0, slots=4, running=0,
        resident=list(resident), hidden=0,
    )  # fmt: skip
    return made.model_copy(update=changes)


def state(*engines: Engine, **changes: Any) -> Engines:
    """Return the state of a gateway with these engines."""
    made = Engines(
        engines=list(engines), builds=[], builds_running=0, builds_waiting=0, merge_workers=1,
        leases=0, loads=0, merge_hits=0, merge_misses=0, artifact_bytes=0, lost_requests=0,
        pools=[],
    )  # fmt: skip
    return made.model_copy(update=changes)


def request(seconds: float = 1.0, first: float | None = 0.4, **changes: Any) -> Request:
    """Return a request that ended now."""
    made = Request(
        id="r", at=NOW, key="ci", path="/v1/chat/completions", model="a" * 64, kind="stored",
        status=200, outcome="done", error=None, seconds=seconds, first_byte_seconds=first,
        stages={"resolve": 0.01, "merge": 0.2, "load": 0.04, "engine": 0.15}, prompt_tokens=1,
        completion_tokens=1,
    )  # fmt: skip
    return made.model_copy(update=changes)


def test_what_is_loaded_where() -> None:
    """Each adapter in memory is listed with its engine, the busiest first, named or not."""
    idle = Resident(digest="a" * 64, models=[], running=0, leases=0)
    busy = Resident(digest="b" * 64, models=["law@1", "both@2"], running=2, leases=3)
    at = state(engine(idle, name="http://one"), engine(busy, hidden=2))
    assert loaded(at) == [
        Loaded("engine of weft/demo-llama", "law@1, both@2", "b" * 64, 2, 3),
        Loaded("http://one", "an unnamed merge", "a" * 64, 0, 0),
    ]
    assert hidden(at) == 2


def test_hits_are_a_share() -> None:
    """Hits and misses are shown with the share of hits, if there was any."""
    assert hit_share(state(merge_hits=3, merge_misses=1)) == "hits: 3, misses: 1 (75 %)"
    assert hit_share(state()) == "hits: 0, misses: 0"


def test_a_bar_is_a_request() -> None:
    """A bar's parts are the stages, the wait for the first token and the rest: all of its time."""
    options = timing_options([request(), request(first=None)])
    json.dumps(options, allow_nan=False)
    names = [series["name"] for series in options["series"]]
    assert names == ["resolve", "merge", "load", "first token", "answer"]
    first, unanswered = zip(*(series["data"] for series in options["series"]), strict=True)
    assert first == (10.0, 200.0, 40.0, 150.0, 600.0)
    assert unanswered == (10.0, 200.0, 40.0, 750.0, 0.0)


def test_the_chart_has_the_newest_requests() -> None:
    """The chart has thirty bars at most, of the newest requests."""
    requests = [request(at=NOW - timedelta(seconds=n)) for n in range(100)]
    assert timing_options(requests)["yAxis"]["data"][:2] == ["18:00:00", "17:59:59"]
    assert len(timing_options(requests)["yAxis"]["data"]) == 30


def test_errors_are_counted() -> None:
    """Errors are counted by code, the most frequent first, with the time of the last."""
    refused = request(outcome="refused", error="model_not_found")
    earlier = refused.model_copy(update={"at": NOW - timedelta(minutes=1)})
    left = request(outcome="left", status=0, error=None)
    found = error_counts([left, refused, earlier, request()])
    assert [(each.error, each.count, each.last) for each in found] == [
        ("model_not_found", 2, NOW), ("the client left", 1, NOW),
    ]  # fmt: skip
