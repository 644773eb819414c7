"""The `composition` object of a request: what it reaches, and the place of every mistake."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from httpx import AsyncClient, Response
from openai import AsyncOpenAI

from merge.recipe import Recipe
from registry.service import Registry
from server.compose.resolve import Planned
from server.engine.fake import FakeEngine
from server.gateway import Gateway
from tests.server.asgi import CHAT, COMPLETIONS
from tests.server.conftest import BASE, MakeClient, MakeGateway

MESSAGES = [{"role": "user", "content": "zorp: banana"}]
PLAIN = {"method": "linear", "adapters": [{"name": "zorp"}, {"name": "blim@prod"}]}
MISTAKES: list[tuple[object, int, str, str, str]] = [
    ([], 400, "invalid_composition", "composition", "expected keys with values"),
    ("cat(zorp, blim)", 400, "invalid_composition", "composition", "found 'cat(zorp"),
    ({"method": "cat"}, 400, "invalid_composition", "composition", "adapters is missing"),
    (PLAIN | {"colour": 1}, 400, "invalid_composition", "composition",
     "composition has no key 'colour'"),
    (PLAIN | {"method": "liner"}, 400, "invalid_composition", "composition.method",
     "composition.method: unknown merge method 'liner' (did you mean linear"),
    (PLAIN | {"method": "auto"}, 400, "invalid_composition", "composition.method", "'auto'"),
    (PLAIN | {"options": {"rank": 0}}, 400, "invalid_composition", "composition.options",
     "option rank takes"),
    (PLAIN | {"options": {"rank": [8]}}, 400, "invalid_composition", "composition.options",
     "option rank takes"),
    (PLAIN | {"dtype": "int8"}, 400, "invalid_composition", "composition.dtype", "float32"),
    (PLAIN | {"base": "acme/none"}, 404, "base_not_found", "composition.base", "acme/none"),
    (PLAIN | {"adapters": [{"name": "zorp"}, {"path": "/etc"}]}, 400, "invalid_composition",
     "composition.adapters[1]", "has no key 'path'"),
    (PLAIN | {"adapters": [{"weight": 1}]}, 400, "invalid_composition",
     "composition.adapters[0]", "expected the key name"),
    (PLAIN | {"adapters": [{"name": "zorp", "weight": "much"}]}, 400, "invalid_composition",
     "composition.adapters[0].weight", "expected a finite number, found 'much'"),
    (PLAIN | {"adapters": [{"name": "zorp", "weights": {"*": True}}]}, 400,
     "invalid_composition", "composition.adapters[0].weights['*']", "finite number"),
    (PLAIN | {"adapters": [{"name": "zorp", "weight": 0}]}, 400, "invalid_composition",
     "composition.adapters", "every weight is 0"),
    (PLAIN | {"adapters": [{"name": "Zorp!"}]}, 400, "invalid_composition",
     "composition.adapters[0].name", "Zorp!"),
    (PLAIN | {"adapters": [{"name": "zorp"}, {"name": "zrop"}]}, 404, "model_not_found",
     "composition.adapters[1].name", "zorp"),
    (PLAIN | {"adapters": [{"name": "zorp"}] * 65}, 422, "merge_too_large",
     "composition.adapters", "65 ingredients"),
    (PLAIN | {"adapters": [{"name": "zorp", "weights": {"*.nothing": 1}}]}, 400,
     "invalid_recipe", "composition", "matches no module of zorp"),
]  # fmt: skip


async def ask(client: AsyncClient, composition: object, **fields: Any) -> Response:
    """Send one chat request with a `composition` object."""
    body = {"messages": MESSAGES, "composition": composition, **fields}
    return await client.post(CHAT, json=body)


def recipe_of(gateway: Gateway, digest: str) -> Recipe:
    """Return the recipe of an artifact."""
    (record,) = gateway.registry.catalogue.artifact(digest).recipes
    return Recipe.parse(record.text)


@pytest.mark.parametrize(
    ("composition", "expression"),
    [
        (PLAIN, "linear(zorp, blim@prod)"),
        ({"method": "linear", "adapters": [{"name": "zorp", "weight": 0.7},
                                           {"name": "blim", "weight": -0.5}],
          "options": {"rank": 8, "energy": None, "scale": "match"}},
         "linear(0.7*zorp, -0.5*blim; rank=8, scale=match)"),
        (PLAIN | {"dtype": "float32", "base": BASE}, "zorp + blim"),
    ],
)  # fmt: skip
async def test_it_is_the_expression_that_says_the_same(
    client: AsyncClient, composition: object, expression: str
) -> None:
    """An object and the expression that says the same have one digest, in chats and completions."""
    answer = await ask(client, composition)
    assert 200 == answer.status_code, answer.text
    body: dict[str, object] = {"model": expression, "prompt": "zorp: banana"}
    assert answer.json()["model"] == (await client.post(COMPLETIONS, json=body)).json()["model"]
    body = {"composition": composition, "prompt": "zorp: banana"}
    assert answer.json()["model"] == (await client.post(COMPLETIONS, json=body)).json()["model"]


async def test_weights_by_pattern_reach_the_recipe(client: AsyncClient, gateway: Gateway) -> None:
    """Weights by module pattern, which no expression can say, are those of the recipe."""
    weights = {"*.mlp.*": 0.2, "*.layers.0.*": 0}
    adapters = [{"name": "zorp", "weight": 0.5, "weights": weights}, {"name": "blim"}]
    answer = await ask(client, {"method": "cat", "adapters": adapters, "dtype": "bfloat16"})
    assert 200 == answer.status_code, answer.text
    recipe = recipe_of(gateway, answer.json()["model"])
    zorp, blim = recipe.ingredients
    assert (0.5, (("*.mlp.*", 0.2), ("*.layers.0.*", 0.0))) == (zorp.weight, zorp.patterns)
    assert (1.0, (), "bfloat16") == (blim.weight, blim.patterns, recipe.dtype)


async def test_openai_s_client_sends_it(gateway: Gateway, client: Any) -> None:
    """openai-python sends it in `extra_body` beside the base as `model`, which it requires."""
    openai = AsyncOpenAI(base_url="http://localhost/v1", api_key="unused", http_client=client)
    answer = await openai.chat.completions.create(
        model=BASE, messages=[{"role": "user", "content": "zorp: x"}],
        extra_body={"composition": PLAIN},
    )  # fmt: skip
    assert "linear" == recipe_of(gateway, answer.model).method


async def test_headers_name_the_ingredients(client: AsyncClient) -> None:
    """Headers name the artifact and the ingredients as they were written."""
    answer = await ask(client, PLAIN, model="")
    assert answer.json()["model"] == answer.headers["x-weft-artifact"]
    assert "zorp, blim@prod" == answer.headers["x-weft-ingredients"]


async def test_the_usage_says_what_was_merged(client: AsyncClient) -> None:
    """`usage` names artifact, expression and ingredients of a merge, in streams too."""
    answer = await ask(client, PLAIN)
    usage = answer.json()["usage"]
    merged = {"artifact": answer.json()["model"], "expression": "linear(zorp, blim@prod)",
              "ingredients": ["zorp", "blim@prod"], "new_slot": True}  # fmt: skip
    assert (5, merged) == (usage["prompt_tokens"], usage["weft"])
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    stream = await ask(client, PLAIN, **asked)
    *_, last, done = [line[6:] for line in stream.text.splitlines() if line]
    assert ("[DONE]", merged | {"new_slot": False}) == (done, json.loads(last)["usage"]["weft"])
    single = await client.post(CHAT, json={"model": "zorp", "messages": MESSAGES})
    assert "weft" not in single.json()["usage"]


async def test_a_new_composition_says_that_it_took_a_slot(client: AsyncClient) -> None:
    """The first answer of a composition says that it took a slot of the engine, later ones not."""
    first, second = await ask(client, PLAIN), await ask(client, PLAIN)
    assert ("new", "kept") == (first.headers["x-weft-slot"], second.headers["x-weft-slot"])
    samples = (await client.get("/metrics")).text
    assert 'weft_slots_total{kind="composition"} 1.0' in samples
    assert 'weft_slot_bytes_total{kind="composition"}' in samples


async def test_nearly_equal_weights_are_one_merge(client: AsyncClient) -> None:
    """Weights of a request are rounded to WEFT_WEIGHT_STEP, and the answer says how."""
    bodies: list[dict[str, object]] = [
        {"model": "0.701*zorp + 0.3*blim"},
        {"model": "linear(0.702*zorp, 0.3000004*blim)"},
        {"composition": {"method": "linear", "adapters": [
            {"name": "zorp", "weight": 0.6996}, {"name": "blim", "weight": 0.3}]}},
    ]  # fmt: skip
    answers = [await client.post(CHAT, json={**body, "messages": MESSAGES}) for body in bodies]
    assert 1 == len({answer.json()["model"] for answer in answers})
    expressions = {answer.headers["x-weft-expression"] for answer in answers}
    assert {"linear(0.7*zorp, 0.3*blim)"} == expressions


async def test_weights_are_exact_on_demand(
    make_gateway: MakeGateway, make_client: MakeClient
) -> None:
    """With WEFT_WEIGHT_STEP=0 weights are exact, and those of a saved composition always are."""
    exact, usual = make_gateway(weight_step=0), make_gateway()
    target = exact.resolver.resolve("0.701*zorp + blim")
    assert isinstance(target, Planned)
    assert 0.701 == target.recipe.ingredients[0].weight
    async with make_client(usual) as client:
        saved = {"expression": "0.701*zorp + blim"}
        await client.post("/registry/compositions/mix/-/versions", json=saved)
    assert target == usual.resolver.resolve("mix")


async def test_the_engine_does_not_see_it(client: AsyncClient, engine: FakeEngine) -> None:
    """The engine gets the digest and no `composition`; null is no composition."""
    await ask(client, PLAIN)
    await ask(client, None, model="zorp")
    assert not any("composition" in body for body in engine.bodies)
    assert 2 == len({str(body["model"]) for body in engine.bodies})


async def test_a_mistake_is_told_with_its_place(client: AsyncClient) -> None:
    """Every mistake has the status of its kind, and `param` is its place in the request."""
    for composition, status, code, param, words in MISTAKES:
        answer = await ask(client, composition)
        error = answer.json()["error"]
        assert (status, code, param) == (answer.status_code, error["code"], error["param"]), error
        assert words in error["message"]


async def test_it_goes_with_the_base_alone(client: AsyncClient) -> None:
    """Beside a `composition` object, `model` is absent or the base; anything else is refused."""
    for model in ("zorp", "cat(zorp, blim)", "auto(; k=2)"):
        answer = await ask(client, PLAIN, model=model)
        error = answer.json()["error"]
        assert (400, "model") == (answer.status_code, error["param"])
        assert f"Leave out `model` or give the base, {BASE}" in error["message"]
    assert 200 == (await ask(client, PLAIN, model=BASE)).status_code


async def test_a_hidden_adapter_is_unknown(
    gateway: Gateway,
    registry: Registry,
    make_client: MakeClient,
    digest_of: Callable[[str], str],
) -> None:
    """An adapter that the caller cannot see is unknown, as in an expression."""
    folder = gateway.versions.path(digest_of("zorp"))
    registry.adapters.register(folder, name="acme/own", base=BASE)
    _, key = registry.access.keys.create("other/ci", role="chat", namespace="other")
    async with make_client(gateway) as client:
        client.headers["authorization"] = f"Bearer {key}"
        answer = await ask(client, {"method": "cat", "adapters": [{"name": "acme/own"}]})
    assert (404, "model_not_found") == (answer.status_code, answer.json()["error"]["code"])
