"""The start-up self-test against correct engines and against known faults."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from registry.types import Base
from server.artifacts.store import ArtifactStore
from server.engine.fake import FakeEngine, FakeResponse
from server.engine.protocol import EngineError, EngineRefused
from server.engine.selftest import SelfTestFailed, self_test
from server.engine.turn import turn
from tests.server.conftest import BASE

SLOTS = 3
Answer = Callable[[str, bool], tuple[list[str], list[float]]]
WORDS = ["a", "b", "c"]


def own(model: str, company: bool) -> tuple[list[str], list[float]]:
    """Answer as a correct engine does: each model alone and in company alike."""
    return WORDS, [-1.0 - (0 if model == BASE else int(model[:4], 16)), -0.5, -0.25]


class EngineUnderTest(FakeEngine):
    """Answers completions by a function of the model and of the presence of other requests."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(BASE)
        self._answer_by = answer

    @asynccontextmanager
    async def send(self, path: str, body: bytes, *, model: str) -> AsyncIterator[FakeResponse]:
        """Wait until other requests are present, then answer."""
        assert path == "/v1/completions"
        assert model == json.loads(body)["model"]
        assert model == BASE or model in self.loaded
        self.running[model] += 1
        try:
            await asyncio.sleep(0.005)
            tokens, logprobs = self._answer_by(model, self.running.total() > 1)
        finally:
            await asyncio.sleep(0.005)
            self.running[model] -= 1
        yield _completion(tokens, logprobs)


def _completion(tokens: list[str], logprobs: list[float]) -> FakeResponse:
    likeliest = [
        {token: value, "tie": value - 0.1} for token, value in zip(tokens, logprobs, strict=True)
    ]
    told: dict[str, Any] = {
        "tokens": tokens, "token_logprobs": logprobs, "top_logprobs": likeliest,
    }  # fmt: skip
    body = json.dumps({"choices": [{"logprobs": told}]}).encode()
    return FakeResponse(200, {}, [body], breaks=False)


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    """An empty store."""
    (tmp_path / "artifacts").mkdir()
    return ArtifactStore(tmp_path / "artifacts")


async def run(engine: FakeEngine, artifacts: ArtifactStore, base: Base, seed: int = 0) -> None:
    """Run the self-test and check that it leaves nothing behind."""
    try:
        await self_test(
            engine, base=BASE, shapes=base.shapes, artifacts=artifacts, slots=SLOTS, seed=seed
        )
    finally:
        assert (set(), frozenset(), Counter()) == (
            engine.loaded, artifacts.digests(), +engine.running,
        )  # fmt: skip


async def test_a_sane_engine_passes(artifacts: ArtifactStore, base: Base) -> None:
    """Every slot gets another adapter, and all are removed afterwards."""
    engine = EngineUnderTest(own)
    await run(engine, artifacts, base)
    assert len(set(engine.loads)) == SLOTS


async def test_each_run_has_canaries_of_its_own(artifacts: ArtifactStore, base: Base) -> None:
    """Another seed gives other digests, so that two gateways which prove one engine at overlapping
    times remove their own canaries only; the same seed gives the same."""
    first, again, other = (EngineUnderTest(own) for _ in range(3))
    await run(first, artifacts, base, seed=1)
    await run(again, artifacts, base, seed=1)
    await run(other, artifacts, base, seed=2)
    assert first.loads == again.loads
    assert set() == set(first.loads) & set(other.loads)


async def test_two_gateways_can_prove_one_engine_at_once(
    artifacts: ArtifactStore, base: Base
) -> None:
    """Two self-tests that overlap both pass, and nothing of either is left."""
    engine = EngineUnderTest(own)
    await asyncio.gather(*(
        self_test(
            engine, base=BASE, shapes=base.shapes, artifacts=artifacts, slots=SLOTS, seed=seed
        )
        for seed in (1, 2)
    ))  # fmt: skip
    assert (2 * SLOTS, set()) == (len(set(engine.loads)), engine.loaded)


async def test_self_tests_take_turns(tmp_path: Path) -> None:
    """Of two gateways on one folder one waits for the other, also when that one dies; nobody waits
    for longer than a start may take."""
    times: list[str] = []

    async def one(name: str) -> None:
        async with turn(tmp_path, 5):
            times.append(f"{name} begins")
            await asyncio.sleep(0.05)
            times.append(f"{name} ends")

    await asyncio.gather(one("a"), one("b"))
    assert ["begins", "ends"] * 2 == [time.split()[1] for time in times]
    assert times[0][0] == times[1][0] != times[2][0] == times[3][0]
    async with turn(tmp_path, 5), turn(tmp_path, 0.01):
        pass


async def test_rounding_in_company_is_forgiven(artifacts: ArtifactStore, base: Base) -> None:
    """Small differences, as from another batch size, are accepted."""

    def rounded(model: str, company: bool) -> tuple[list[str], list[float]]:
        tokens, logprobs = own(model, company)
        return tokens, [value + 0.1 * company for value in logprobs]

    await run(EngineUnderTest(rounded), artifacts, base)


async def test_a_near_tie_may_fall_either_way(artifacts: ArtifactStore, base: Base) -> None:
    """A different token of nearly equal probability ends the comparison, since the texts then
    differ.
    """

    def tied(model: str, company: bool) -> tuple[list[str], list[float]]:
        tokens, logprobs = own(model, company)
        return (["tie", "x", "y"], [logprobs[0], -9.0, -9.0]) if company else (tokens, logprobs)

    await run(EngineUnderTest(tied), artifacts, base)


async def test_a_base_answered_by_an_adapter_is_refused(
    artifacts: ArtifactStore, base: Base
) -> None:
    """The fault of the stock kernels, a base answered by an adapter in a mixed batch, is found."""

    def mixed(model: str, company: bool) -> tuple[list[str], list[float]]:
        return own("ffff" if model == BASE and company else model, company)

    with pytest.raises(SelfTestFailed, match="the base answers differently"):
        await run(EngineUnderTest(mixed), artifacts, base)


async def test_a_base_that_is_seldom_in_company_is_refused(
    artifacts: ArtifactStore, base: Base
) -> None:
    """Answers that do not overlap prove nothing, so the base is requested until they do."""
    answers = Counter[str]()

    def seldom(model: str, company: bool) -> tuple[list[str], list[float]]:
        answers[model] += 1
        mixed = model == BASE and answers[model] == 4  # one alone, three before they met
        return own("ffff" if mixed else model, company)

    with pytest.raises(SelfTestFailed, match="the base answers differently"):
        await run(EngineUnderTest(seldom), artifacts, base)


async def test_a_near_tie_with_another_weight_is_refused(
    artifacts: ArtifactStore, base: Base
) -> None:
    """A token with nearly equal probability must keep its probability in company."""

    def mixed(model: str, company: bool) -> tuple[list[str], list[float]]:
        tokens, logprobs = own(model, company)
        return (["tie", "x", "y"], [-0.01, -9.0, -9.0]) if company else (tokens, logprobs)

    with pytest.raises(SelfTestFailed, match="answers differently"):
        await run(EngineUnderTest(mixed), artifacts, base)


async def test_an_adapter_answered_by_another_is_refused(
    artifacts: ArtifactStore, base: Base
) -> None:
    """Adapters whose answers change in company are refused."""

    def mixed(model: str, company: bool) -> tuple[list[str], list[float]]:
        return own(BASE if company else model, company)

    with pytest.raises(SelfTestFailed, match="an adapter answers differently"):
        await run(EngineUnderTest(mixed), artifacts, base)


async def test_other_tokens_in_company_are_refused(artifacts: ArtifactStore, base: Base) -> None:
    """A token that was not among the likeliest alone is a fault and not a near tie."""

    def mixed(model: str, company: bool) -> tuple[list[str], list[float]]:
        tokens, logprobs = own(model, company)
        return (["z", *tokens[1:]] if company else tokens), logprobs

    with pytest.raises(SelfTestFailed, match="answers differently"):
        await run(EngineUnderTest(mixed), artifacts, base)


async def test_adapters_without_effect_are_refused(artifacts: ArtifactStore, base: Base) -> None:
    """An engine that answers every request as the base does is refused."""
    with pytest.raises(SelfTestFailed, match="no effect"):
        await run(EngineUnderTest(lambda _model, _company: own(BASE, False)), artifacts, base)


async def test_an_engine_that_loads_nothing_is_refused(
    artifacts: ArtifactStore, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's message for a failed load is in the error."""
    engine = EngineUnderTest(own)

    async def refuse(digest: str) -> None:
        raise EngineRefused(digest, "no room")

    monkeypatch.setattr(engine, "load", refuse)
    with pytest.raises(EngineError, match="no room"):
        await run(engine, artifacts, base)


async def test_an_engine_that_answers_an_error_is_refused(
    artifacts: ArtifactStore, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's status and message are in the error."""
    engine = EngineUnderTest(own)

    @asynccontextmanager
    async def refuse(_path: str, _body: bytes, *, model: str) -> AsyncIterator[FakeResponse]:
        yield FakeResponse(418, {}, [b"teapot"], breaks=False)

    monkeypatch.setattr(engine, "send", refuse)
    with pytest.raises(SelfTestFailed, match=r"418.*teapot"):
        await run(engine, artifacts, base)


async def test_numbers_that_are_none_fail_the_self_test(
    artifacts: ArtifactStore, base: Base
) -> None:
    """An engine that answers NaN in company is refused."""

    def poisoned(model: str, company: bool) -> tuple[list[str], list[float]]:
        tokens, logprobs = own(model, company)
        return tokens, [math.nan] * 3 if company else logprobs

    with pytest.raises(SelfTestFailed):
        await run(EngineUnderTest(poisoned), artifacts, base)


async def test_one_slot_without_effect_fails_the_self_test(
    artifacts: ArtifactStore, base: Base
) -> None:
    """Every slot must show the effect of its adapter."""
    first: list[str] = []

    def dead_slot(model: str, company: bool) -> tuple[list[str], list[float]]:
        if model != BASE and not first:
            first.append(model)
        return own(BASE if model in first else model, company)

    with pytest.raises(SelfTestFailed, match="no effect"):
        await run(EngineUnderTest(dead_slot), artifacts, base)
