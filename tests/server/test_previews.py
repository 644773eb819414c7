"""`POST /registry/explain/preview`: what ingredients say of a merge before it is built."""

import asyncio
from typing import Any

import pytest
from httpx import AsyncClient

from merge.errors import MergeError
from registry.callers import LOCAL
from server.artifacts import previews
from server.artifacts.previews import PreviewTooLarge
from server.compose.resolve import Planned
from server.gateway import Gateway
from server.pools import PoolFull
from tests.server.admin.conftest import problem
from tests.server.conftest import BASE, MakeClient, MakeGateway

PREVIEW = "/registry/explain/preview"


async def preview(client: AsyncClient, **body: Any) -> dict[str, Any]:
    """Return the preview of a body."""
    answer = await client.post(PREVIEW, json=body)
    assert 200 == answer.status_code, answer.text
    told: dict[str, Any] = answer.json()
    return told


def recipe(gateway: Gateway, text: str = "cat(zorp, blim)") -> Any:
    """Return the recipe of an expression."""
    target = gateway.resolver.resolve(text)
    assert isinstance(target, Planned)
    return target.recipe


async def test_ingredients_are_measured_without_a_build(
    client: AsyncClient, gateway: Gateway
) -> None:
    """Signs by pair and energy by rank come for an expression and for the same object."""
    told = await preview(client, model="linear(0.7*zorp, 0.3*blim@prod; rank=8)")
    assert (["zorp@1", "blim@1"], 8) == (told["ingredients"], told["rank"])
    assert 0 < told["sign_conflict"] == told["sign_conflicts"][0][1]
    assert sorted(told["energy"]) == told["energy"]
    assert 1.0 == pytest.approx(told["energy"][-1])
    adapters = [{"name": "zorp", "weight": 0.7}, {"name": "blim@prod", "weight": 0.3}]
    as_object = {"method": "linear", "adapters": adapters, "options": {"rank": 8}}
    assert told == await preview(client, composition=as_object)
    assert not gateway.artifacts.digests()


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        (BASE, 400, "invalid_request"), ("zorp", 400, "invalid_request"),
        ("cat(zorp", 400, "invalid_expression"), ("cat(zorp, nope)", 404, "model_not_found"),
    ],
)  # fmt: skip
async def test_only_merges_have_previews(
    client: AsyncClient, model: str, status: int, code: str
) -> None:
    """The base, single adapters, mistakes and unknown names are refused."""
    problem(await client.post(PREVIEW, json={"model": model}), status, code)


async def test_hidden_ingredients_are_unknown(gateway: Gateway, make_client: MakeClient) -> None:
    """A preview measures nothing that its caller does not see."""
    folder = gateway.versions.path(recipe(gateway).ingredients[0].digest)
    gateway.registry.adapters.register(folder, name="acme/own", base=BASE)
    _, key = gateway.registry.access.keys.create("other/ci", role="read", namespace="other")
    async with make_client(gateway) as client:
        client.headers["authorization"] = f"Bearer {key}"
        answer = await client.post(PREVIEW, json={"model": "cat(zorp, acme/own)"})
    problem(answer, 404, "model_not_found")


async def test_figures_are_remembered(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe is measured once, also for requests at once."""
    calls: list[object] = []
    run = gateway.previews._workers.run

    async def counted(call: Any, seconds: float) -> Any:
        calls.append(call)
        return await run(call, seconds)

    monkeypatch.setattr(gateway.previews._workers, "run", counted)
    asked = [gateway.previews.of(recipe(gateway), caller=LOCAL) for _ in range(3)]
    first, *others = await asyncio.gather(*asked)
    assert all(first is other for other in others)
    assert 1 == len(calls)


async def test_what_takes_too_long_is_refused(
    make_gateway: MakeGateway, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preview beyond its time is 422, says what to do, and the next one is measured again."""
    gateway = make_gateway()

    async def slow(*_: object) -> Any:
        raise PreviewTooLarge("20 s")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.previews._workers, "run", slow)
        async with make_client(gateway) as client:
            answer = await client.post(PREVIEW, json={"model": "cat(zorp, blim)"})
    assert "fewer" in problem(answer, 422, "preview_too_large")["detail"]
    assert 1.0 == pytest.approx(
        (await gateway.previews.of(recipe(gateway), caller=LOCAL)).energy[-1]
    )


def test_the_worker_stops_itself_in_time(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process gives a preview up at the limit, with an error that it can send."""
    asked = recipe(gateway)
    folders = {item.digest: gateway.versions.path(item.digest) for item in asked.ingredients}
    monkeypatch.setattr(previews, "_SECONDS", 1e-6)
    with pytest.raises(PreviewTooLarge) as caught:
        previews._preview(asked.canonical(), folders)
    kind, arguments = caught.value.__reduce__()
    assert str(caught.value) == str(kind(*arguments))


async def test_few_wait(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller with its share of waiting previews is refused, and one that left has left."""
    go = asyncio.Event()

    async def held(*_: object) -> Any:
        await go.wait()
        raise MergeError("ended")

    monkeypatch.setattr(gateway.previews._workers, "run", held)
    texts = [f"cat(zorp, {weight}*blim)" for weight in (2, 3, 4, 5, 6)]
    waiting = [
        asyncio.create_task(gateway.previews.of(recipe(gateway, text), caller=LOCAL))
        for text in texts
    ]
    await asyncio.sleep(0)
    with pytest.raises(PoolFull):
        await gateway.previews.of(recipe(gateway), caller=LOCAL)
    waiting[-1].cancel()
    await asyncio.gather(waiting[-1], return_exceptions=True)
    waiting.append(asyncio.create_task(gateway.previews.of(recipe(gateway), caller=LOCAL)))
    go.set()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [MergeError] * 4 + [asyncio.CancelledError, MergeError] == [type(one) for one in ended]
