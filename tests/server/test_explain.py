"""`/registry/explain` and `weft explain`: what a model means, without building it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from httpx import AsyncClient

from merge.peft_format import open_folder
from registry.references import parse_reference
from registry.service import Registry
from server.gateway import Gateway
from tests.adapters import make_adapter
from tests.server.asgi import CHAT
from tests.server.conftest import BASE, MakeClient, Weft

EXPLAIN = "/registry/explain"
JSON = {"content-type": "application/json"}


async def explain(client: AsyncClient, model: str, **query: str) -> dict[str, Any]:
    """Return the explanation of a model."""
    answer = await client.get(EXPLAIN, params={"model": model, **query})
    assert 200 == answer.status_code, answer.text
    explanation: dict[str, Any] = answer.json()
    return explanation


async def test_an_expression_is_explained_without_building_it(
    client: AsyncClient, gateway: Gateway
) -> None:
    """Ingredients, digests, rank, bytes, seconds, shares and cosines come without a merge."""
    told = await explain(client, "linear(0.701*zorp, 0.3*blim@prod; rank=8)")
    zorp, blim = told["ingredients"]
    assert ("merge", "linear", 8) == (told["kind"], told["method"], told["rank"])
    assert "linear(0.7*zorp, 0.3*blim@prod; rank=8)" == told["expression"]
    assert ("zorp@1", 0.7, "blim@1", 0.3) == (
        zorp["reference"], zorp["weight"], blim["reference"], blim["weight"],
    )  # fmt: skip
    assert 1 == pytest.approx(zorp["share"] + blim["share"])
    ratio = 0.7 * zorp["norm"] / (0.3 * blim["norm"])
    assert ratio == pytest.approx(zorp["share"] / blim["share"])
    assert [1.0, 1.0] == pytest.approx([told["cosines"][i][i] for i in range(2)], abs=1e-5)
    assert told["cosines"][0][1] == told["cosines"][1][0]
    assert told["seconds"] > 0
    assert told["memory_bytes"] > told["nbytes"] > 0
    assert (None, None) == (told["artifact"], told["report"])
    assert not gateway.artifacts.digests()


async def test_what_was_built_comes_with_its_report(client: AsyncClient, gateway: Gateway) -> None:
    """After a request the explanation has the artifact, its bytes as forecast, and its report."""
    body = {"model": "cat(zorp, blim)", "messages": [{"role": "user", "content": "zorp: x"}]}
    digest = (await client.post(CHAT, json=body)).json()["model"]
    told = await explain(client, "cat(zorp, blim)")
    assert (digest, "cat") == (told["artifact"], told["report"]["method"])
    folder = open_folder(gateway.artifacts.path(digest))
    assert max(module.rank for module in folder.modules.values()) == told["rank"]
    written = sum(entry.end - entry.begin for m in folder.modules.values() for entry in (m.a, m.b))
    assert written == told["nbytes"]
    by_digest = await explain(client, digest)
    assert told["ingredients"] == by_digest["ingredients"]


async def test_every_kind_of_model_is_explained(client: AsyncClient) -> None:
    """The base, an adapter, a composition and a retrieval are explained as they resolve."""
    assert "base" == (await explain(client, BASE))["kind"]
    single = await explain(client, "zorp@prod")
    assert ("adapter", "zorp@1") == (single["kind"], single["ingredients"][0]["reference"])
    saved = {"expression": "cat(zorp, 0.123*blim)"}
    await client.post("/registry/compositions/mix/-/versions", json=saved)
    mix = await explain(client, "mix")
    assert [1.0, 0.123] == [part["weight"] for part in mix["ingredients"]]
    chosen = await explain(client, "auto(; k=2, method=cat)", prompt="blim: apple")
    assert "blim@1" == chosen["ingredients"][0]["reference"]


async def test_an_ingredient_that_dominates_is_a_warning(
    client: AsyncClient, registry: Registry, tmp_path: Any
) -> None:
    """A warning says that one ingredient has more than twice the norm of the next: 50/50 is not."""
    told = await explain(client, "cat(zorp, 0.1*blim)")
    (warning,) = told["warnings"]
    assert "dominates" == warning["code"]
    assert "zorp@1 has 9" in warning["message"]
    assert [] == (await explain(client, "cat(zorp, blim)"))["warnings"]


async def test_a_quarantined_ingredient_is_a_warning(
    client: AsyncClient, registry: Registry
) -> None:
    """What a request would refuse is explained: alone, in an expression, in a composition."""
    saved = {"expression": "cat(zorp, blim)"}
    await client.post("/registry/compositions/mix/-/versions", json=saved)
    registry.versions.quarantine(parse_reference("blim@1"), "answers in verse", "ada")
    for model in ("blim", "cat(zorp, blim)", "mix"):
        told = await explain(client, model)
        assert ["quarantined"] == [warning["code"] for warning in told["warnings"]], model
        assert "answers in verse" in told["warnings"][0]["message"]


async def test_mixed_chat_templates_are_a_warning(
    client: AsyncClient, registry: Registry, tmp_path: Any
) -> None:
    """Ingredients that were trained with different chat templates are a warning."""
    modules = registry.bases.get(BASE).shapes
    shapes = {name: modules[name] for name in modules if name.endswith("q_proj")}
    folder = make_adapter(tmp_path / "other", modules=shapes, base=BASE)
    (folder / "chat_template.jinja").write_text("{{ messages }} in another way")
    registry.adapters.register(folder, name="other")
    codes = [w["code"] for w in (await explain(client, "cat(zorp, other)"))["warnings"]]
    assert "mixed_templates" in codes


async def post(client: AsyncClient, **body: Any) -> dict[str, Any]:
    """Return the explanation of a body."""
    answer = await client.post(EXPLAIN, json=body)
    assert 200 == answer.status_code, answer.text
    explanation: dict[str, Any] = answer.json()
    return explanation


async def test_a_merge_is_written_both_ways(client: AsyncClient) -> None:
    """An expression comes back as a composition object, the object as an expression, as asked."""
    text = "ties(0.7*zorp, -blim@prod; density=0.3, rank=8)"
    told = await post(client, model=text)
    assert text == told["expression"]
    assert {
        "method": "ties", "options": {"density": 0.3, "rank": 8},
        "adapters": [{"name": "zorp", "weight": 0.7}, {"name": "blim@prod", "weight": -1.0}],
    } == told["composition"]  # fmt: skip
    back = await post(client, composition=told["composition"])
    for part in ("expression", "composition", "recipe", "ingredients"):
        assert told[part] == back[part]
    by_query = await explain(client, text)
    assert told == by_query


async def test_what_only_an_object_says_stays_in_it(client: AsyncClient) -> None:
    """Weights by pattern, a dtype and a base are kept; text, which has no patterns, is left out."""
    adapters = [{"name": "zorp", "weight": 1.0, "weights": {"*.mlp.*": 0.5}}, {"name": "blim"}]
    asked = {"method": "linear", "adapters": adapters, "dtype": "float32", "base": BASE}
    told = await post(client, composition=asked)
    assert told["expression"] is None
    assert {"name": "blim", "weight": 1.0} == told["composition"]["adapters"][1]
    assert (adapters[0], "float32", BASE) == (
        told["composition"]["adapters"][0], told["composition"]["dtype"],
        told["composition"]["base"],
    )  # fmt: skip


async def test_a_saved_composition_is_written_as_it_was_saved(client: AsyncClient) -> None:
    """The name of a composition is explained by the references and options that were saved."""
    saved = {"expression": "cat(zorp, 0.5*blim)"}
    await client.post("/registry/compositions/mix/-/versions", json=saved)
    told = await post(client, model="mix")
    assert saved["expression"] == told["expression"]
    assert "cat" == told["composition"]["method"]
    for model in (BASE, "zorp"):
        single = await post(client, model=model)
        assert (None, None) == (single["expression"], single["composition"])


async def test_a_quarantined_ingredient_of_an_object_is_a_warning(
    client: AsyncClient, registry: Registry
) -> None:
    """A composition object of quarantined ingredients is explained, with its weights by pattern."""
    registry.versions.quarantine(parse_reference("blim@1"), "answers in verse", "ada")
    adapters = [{"name": "zorp"}, {"name": "blim", "weights": {"*.mlp.*": 0.0}}]
    told = await post(client, composition={"method": "cat", "adapters": adapters})
    assert ["quarantined"] == [warning["code"] for warning in told["warnings"]]
    assert {"*.mlp.*": 0.0} == told["composition"]["adapters"][1]["weights"]


@pytest.mark.parametrize(
    ("body", "status", "code", "place"),
    [
        ({}, 400, "invalid_request", None),
        ({"model": " "}, 400, "invalid_request", None),
        ({"model": "cat(zorp"}, 400, "invalid_expression", None),
        ({"model": "a" * 5000}, 400, "invalid_request", None),
        ({"model": "zorp\n"}, 400, "invalid_request", None),
        ({"model": 3}, 400, "invalid_request", None),
        ({"composition": []}, 400, "invalid_request", None),
        ({"composition": {"method": "cat"}}, 400, "invalid_composition", "composition"),
        (
            {"composition": {"method": "cat", "adapters": [{"name": "zorp", "weight": "x"}]}},
            400, "invalid_composition", "composition.adapters[0].weight",
        ),
        (
            {"composition": {"method": "cat", "adapters": [{"name": "\ud800"}]}},
            400, "invalid_request", None,
        ),
        ({"model": "zorp", "secret": 1}, 400, "invalid_request", None),
        ({"model": "zorp", "prompt": "x" * 9000}, 400, "invalid_request", None),
    ],
)  # fmt: skip
async def test_a_mistake_in_a_body_is_told_with_its_place(
    client: AsyncClient, body: Any, status: int, code: str, place: str | None
) -> None:
    """What a body may not hold is refused with a code, and `param` says where in an object."""
    answer = await client.post(EXPLAIN, content=json.dumps(body), headers=JSON)
    told = answer.json()
    assert (status, code) == (answer.status_code, told["code"]), told
    assert place is None or place == told["param"]


async def test_visibility_and_roles_are_those_of_a_request(
    gateway: Gateway, make_client: MakeClient, registry: Registry, digest_of: Callable[[str], str]
) -> None:
    """The role read may ask; what it cannot see is unknown, and mistakes have their codes."""
    folder = gateway.versions.path(digest_of("zorp"))
    registry.adapters.register(folder, name="acme/own", base=BASE)
    _, key = registry.access.keys.create("other/ci", role="read", namespace="other")
    async with make_client(gateway) as client:
        client.headers["authorization"] = f"Bearer {key}"
        assert "merge" == (await explain(client, "cat(zorp, blim)"))["kind"]
        for model, status, code in [
            ("cat(zorp, acme/own)", 404, "model_not_found"),
            ("cat(zorp", 400, "invalid_expression"),
            ("cat(zorp; x=1)", 400, "invalid_recipe"),
            ("  ", 400, "invalid_request"),
        ]:
            answer = await client.get(EXPLAIN, params={"model": model})
            assert (status, code) == (answer.status_code, answer.json()["code"])


def test_the_command_prints_it(weft: Weft) -> None:
    """`weft explain` prints the merge, its ingredients and warnings, or JSON."""
    shown = weft("explain", "cat(zorp, 0.1*blim)")
    assert 0 == shown.exit_code, shown.output
    for words in ("cat(zorp, 0.1*blim)", "not built", "blim@1", "of the norm"):
        assert words in shown.output
    as_json = weft("explain", "auto(; k=1, method=cat)", "--prompt", "blim: apple", "--json")
    assert "blim@1" == json.loads(as_json.stdout)["ingredients"][0]["reference"]
