"""Removing adapters from a real engine, while they are in use and when they are idle."""

import asyncio
import json
from collections import Counter
from contextlib import suppress

import pytest

from registry.storage.blobs import LocalBlobs
from server.engine.client import VllmEngine
from server.engine.link import Fixed
from server.engine.protocol import EngineBusy, EngineRefused
from tests.engine.gateway import Weft

ATTEMPTS = 20
ROUNDS = 20


async def test_remove_while_it_runs(weft: Weft) -> None:
    """The plug-in removes an adapter after its running request has ended; then the engine neither
    lists nor holds it."""
    engine = VllmEngine(Fixed(weft.engine_endpoint()))
    async with weft.http() as http:
        digest = (await weft.complete(http, "cat(0.9*glix)", "glix: abc"))["model"]
        body = {
            "model": digest, "prompt": "x", "max_tokens": 150, "ignore_eos": True, "stream": True,
        }  # fmt: skip
        for _ in range(ATTEMPTS):  # on a busy machine an answer may end before it is observed
            async with http.stream("POST", "/v1/completions", json=body) as response:
                lines = response.aiter_lines()
                await anext(lines)  # from here on the engine works on it
                was_running = digest in (await engine.adapters()).running
                await engine.remove(digest)
                adapters = await engine.adapters()
                rest = [line async for line in lines if line]
            assert digest not in adapters.running
            assert digest not in adapters.known | adapters.resident
            assert rest[-1] == "data: [DONE]"
            if was_running:
                break
    await engine.close()

    assert was_running, "no request was ever seen running"


async def test_remove_twice(weft: Weft) -> None:
    """Removing is idempotent, and a removed artifact loads again when it is requested."""
    engine = VllmEngine(Fixed(weft.engine_endpoint()))
    async with weft.http() as http:
        first = await weft.complete(http, "cat(0.8*glix)", "glix: abc")
        await engine.remove(first["model"])
        await engine.remove(first["model"])
        again = await weft.complete(http, "cat(0.8*glix)", "glix: abc")
    await engine.close()

    assert (first["model"], first["choices"]) == (again["model"], again["choices"])


async def test_removals_among_requests(weft: Weft) -> None:
    """Removals at the very moment of requests, as other gateways send them, neither fail a request
    nor end the engine."""
    engine = VllmEngine(Fixed(weft.engine_endpoint()))
    async with weft.http() as http:
        names = [f"cat({scale}*glix)" for scale in (0.61, 0.62, 0.63)]
        digests = [(await weft.complete(http, name, "glix: abc"))["model"] for name in names]
    body = {"prompt": "glix: abc", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    answers, removals = list[tuple[int, bytes]](), Counter[str]()

    async def ask(digest: str) -> None:
        request = json.dumps(body | {"model": digest}).encode()
        for _ in range(ROUNDS):
            async with engine.send("/v1/completions", request, model=digest) as response:
                answers.append((response.status, await response.read()))

    async def keep_removing(digest: str) -> None:
        while True:
            with suppress(EngineBusy):
                await engine.remove(digest)
                removals[digest] += 1

    removing = [asyncio.create_task(keep_removing(digest)) for digest in digests]
    await asyncio.gather(*(ask(digest) for digest in digests * 3))
    for task in removing:
        task.cancel()
    await asyncio.gather(*removing, return_exceptions=True)
    await engine.close()
    assert {200} == {status for status, _ in answers}, answers
    assert all(removals[digest] for digest in digests)


async def test_changed_files_are_not_loaded(weft: Weft) -> None:
    """An artifact whose bytes no longer match its name is refused before the engine reads it."""
    engine = VllmEngine(Fixed(weft.engine_endpoint()))
    store = LocalBlobs(weft.settings.artifacts)
    async with weft.http() as http:
        digest = (await weft.complete(http, "cat(0.7*glix)", "glix: abc"))["model"]
        await engine.remove(digest)
        weights = store.path(digest) / "adapter_model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.unlink()
        weights.write_bytes(data)
        with pytest.raises(EngineRefused, match="do not match their digest"):
            await engine.load(digest)
        store.delete(digest)
    await engine.close()
