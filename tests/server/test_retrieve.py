"""`auto(…)`: the registry chooses the ingredients by the beginning of a conversation."""

import math
from typing import Any

import msgspec
import pytest
from httpx import AsyncClient, Response

from registry.references import parse_reference
from registry.service import Registry
from server.compose.expression import Expression, parse_model
from server.compose.resolve import Planned, Resolver, Stored
from server.compose.retrieve import NothingFound, Retrieval, RetrievalInvalid, read_retrieval
from server.openai.requests import CompletionRequest
from server.settings import Settings
from tests.reading import read_adapter
from tests.server.asgi import CHAT, COMPLETIONS
from tests.server.conftest import BASE, MakeSettings
from tests.serving import serving

QUESTION = {"role": "user", "content": "write the letters backwards with a dash between them"}


@pytest.fixture
def resolver(registry: Registry, settings: Settings) -> Resolver:
    """A resolver for the demo base."""
    return Resolver(registry, serving(settings))


def wish(text: str) -> Retrieval:
    """Parse an `auto(…)`."""
    expression = parse_model(text)
    assert isinstance(expression, Expression)
    return read_retrieval(expression)


async def ask(client: AsyncClient, model: str, *messages: Any) -> Response:
    """Send one chat request."""
    return await client.post(CHAT, json={"model": model, "messages": messages or [QUESTION]})


def test_what_is_left_out_has_a_default() -> None:
    """The defaults are three near adapters, the method that the lab names, and no conditions."""
    method = ("actmat", (), (("ridge", 0.01),))
    assert Retrieval(3, "near", 0.15, *method) == wish("auto()") == wish("auto(;)")
    assert Retrieval(3, "equal", -1.0, *method) == wish("auto(; weights=equal)")
    assert (("ridge", 0.1),) == wish("auto(; ridge=0.1)").options
    assert ("tsv", ()) == (wish("auto(; method=tsv)").method, wish("auto(; method=tsv)").options)


def test_options_are_the_retrieval_s_or_the_method_s() -> None:
    """k, method, tag and filter choose; other options are passed to the method."""
    read = wish('auto(; k=2, method=linear, tag=Legal, filter="rank<=16 owner=ada", rank=8)')
    assert (2, "linear", (("rank", 8),)) == (read.k, read.method, read.options)
    assert ["rank", "owner", "tag"] == [condition.field for condition in read.conditions]
    assert ("legal",) == read.conditions[-1].values


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("auto(zorp; k=3)", "chooses its ingredients"),
        ("auto(; k=0)", "k must be"),
        ("auto(; k=17)", "k must be"),
        ("auto(; k=1.5)", "k must be"),
        ("auto(; k=true)", "k must be"),
        ("auto(; k=many)", "k must be"),
        ("auto(; method=3)", "method must be"),
        ("auto(; weights=far)", "weights must be near or equal"),
        ("auto(; near=2)", "near must be a number from -1 to 1, not 2"),
        ("auto(; near=true)", "near must be"),
        ('auto(; filter="status=retired")', "Remove status from the filter"),
    ],
)
def test_a_wish_that_cannot_be_carried_out(text: str, said: str) -> None:
    """Each mistake has its own message."""
    with pytest.raises(RetrievalInvalid, match=said):
        wish(text)


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        ({"messages": [QUESTION]}, QUESTION["content"]),
        (
            {"messages": [
                {"role": "system", "content": "s"}, {"role": "user", "content": "one"},
                {"role": "assistant", "content": "a"}, {"role": "user", "content": "two"},
            ]},
            "s\none",
        ),
        ({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, "odd",
            {"type": "text", "text": "b"}]}]}, "a\nb"),
        ({"messages": [{"role": "developer", "content": "d"}, 7, {"role": "user"}]}, "d"),
        ({"prompt": "p"}, "p"),
        ({"prompt": ["first", "second"]}, "first"),
        ({"prompt": [1, 2, 3]}, ""),
        ({"prompt": []}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_the_prompt_is_how_a_conversation_begins(body: dict[str, Any], prompt: str) -> None:
    """The prompt is the instructions and the first question, in any form; later turns change
    nothing.
    """
    fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}
    assert prompt == CompletionRequest(fields, "auto()").prompt


def test_the_nearest_adapters_are_merged(resolver: Resolver, registry: Registry) -> None:
    """With equal weights the ingredients are numbered versions with weight one, best first."""
    target = resolver.resolve("auto(; k=2, weights=equal, rank=8)", QUESTION["content"])
    assert isinstance(target, Planned)
    hits = registry.search.finder.search(QUESTION["content"], filter=f"base={BASE}", limit=2)
    assert tuple(hit.reference for hit in hits) == target.chosen
    assert [(hit.digest, 1.0) for hit in hits] == target.recipe.lineage
    assert ("actmat", 8) == (target.recipe.method, dict(target.recipe.options)["rank"])


def test_nearer_adapters_weigh_more(resolver: Resolver, registry: Registry) -> None:
    """Weights are exp(-(1 - cosine) / 0.04), normalised, for those of at least 0.01."""
    target = resolver.resolve("auto()", QUESTION["content"])
    assert isinstance(target, Planned)
    hits = registry.search.finder.search(QUESTION["content"], filter=f"base={BASE}", limit=8)
    near = [hit for hit in hits if hit.score >= 0.15]
    sizes = [math.exp(-(1 - hit.score) / 0.04) for hit in near]
    taken = [hit for hit, size in zip(near, sizes, strict=True) if size / sum(sizes) >= 0.01][:3]
    total = sum(sizes[: len(taken)])
    expected = [(hit.digest, size / total) for hit, size in zip(taken, sizes, strict=False)]
    assert len(taken) > 1
    assert [digest for digest, _ in expected] == [digest for digest, _ in target.recipe.lineage]
    assert [weight for _, weight in expected] == pytest.approx(
        [weight for _, weight in target.recipe.lineage]
    )


def test_a_named_adapter_answers_alone(resolver: Resolver) -> None:
    """Adapters that are not near are not merged: the only one that is answers as it is."""
    target = resolver.resolve("auto()", "blim: apple")
    assert isinstance(target, Stored)
    assert ("blim@1",) == target.chosen
    far = resolver.resolve("auto(; near=-1)", "blim: apple")
    assert isinstance(far, Planned)
    assert "blim@1" == far.chosen[0]
    assert all(weight >= 0.01 for _, weight in far.recipe.lineage)


async def test_where_nothing_is_near_the_base_answers(client: AsyncClient) -> None:
    """A prompt that is near no adapter is answered by the base, and a header says so."""
    far = {"role": "user", "content": "What is the capital of France?"}
    answer = await ask(client, "auto()", far)
    assert (200, BASE) == (answer.status_code, answer.json()["model"])
    assert answer.headers["x-weft-fallback"].startswith("base; auto takes adapters with a cosine")
    assert "x-weft-artifact" not in answer.headers
    near = await ask(client, "auto(; k=1)")
    assert "x-weft-fallback" not in near.headers
    assert "x-weft-artifact" in near.headers


def test_the_same_messages_and_revision_are_the_same_choice(resolver: Resolver) -> None:
    """A choice depends only on the messages and the revision."""
    first = resolver.resolve("auto()", "blim: apple")
    assert all(first == resolver.resolve("auto()", "blim: apple") for _ in range(3))


def test_one_adapter_is_served_as_it_is(
    resolver: Resolver, registry: Registry, make_settings: MakeSettings
) -> None:
    """One adapter is served unmerged; only one above the engine's rank is reduced."""
    registry.search.descriptions.change_tags("plov", add=["large"], actor="ada")
    version = read_adapter(registry, "plov").versions[0]
    expected = Stored(version.digest, BASE, chosen=("plov@1",))
    assert expected == resolver.resolve("auto(; k=1, near=-1, tag=large)", "anything")
    small = Resolver(registry, serving(make_settings(max_lora_rank=8)))
    target = small.resolve("auto(; k=1, near=-1, tag=large)", "anything")
    assert isinstance(target, Planned)
    assert 8 == dict(target.recipe.options)["rank"]


def test_conditions_limit_the_choice(resolver: Resolver, registry: Registry) -> None:
    """Only adapters that satisfy tag and filter are chosen, and possibly fewer than k."""
    for name in ("zorp", "blim"):
        registry.search.descriptions.change_tags(name, add=["easy"], actor="ada")
    target = resolver.resolve("auto(; k=5, weights=equal, tag=easy)", "text")
    assert isinstance(target, Planned)
    assert {"zorp@1", "blim@1"} == set(target.chosen)
    target = resolver.resolve('auto(; k=5, near=-1, tag=easy, filter="name!=zorp")', "text")
    assert ("blim@1",) == target.chosen  # type: ignore[union-attr]  # not the base


def test_what_is_quarantined_is_not_chosen(resolver: Resolver, registry: Registry) -> None:
    """A quarantined adapter is not chosen any more."""
    first = resolver.resolve("auto(; k=1)", "blim: apple")
    registry.versions.quarantine(parse_reference("blim@1"), "bad", "ada")
    second = resolver.resolve("auto(; k=1)", "blim: apple")
    assert ("blim@1",) == first.chosen  # type: ignore[union-attr]  # not the base
    assert first != second


def test_nothing_fits(resolver: Resolver) -> None:
    """An empty choice is an error with the conditions of the search."""
    with pytest.raises(NothingFound, match=BASE):
        resolver.resolve("auto(; tag=nobody)", "text")


async def test_the_response_names_what_was_chosen(client: AsyncClient) -> None:
    """Headers name the ingredients and the artifact; the body's model is the artifact."""
    response = await ask(client, "auto(; k=2)")
    assert response.status_code == 200, response.text
    names = response.headers["x-weft-ingredients"].split(", ")
    assert (2, response.json()["model"]) == (len(names), response.headers["x-weft-artifact"])
    assert all(name.endswith("@1") for name in names)


async def test_sending_the_digest_pins_the_choice(client: AsyncClient, registry: Registry) -> None:
    """The artifact's digest keeps the choice when the registry changes."""
    first = await ask(client, "auto(; k=2)")
    registry.search.descriptions.set_examples("tref", [QUESTION["content"]], actor="ada")
    again = await ask(client, "auto(; k=2)")
    assert first.headers["x-weft-ingredients"] != again.headers["x-weft-ingredients"]
    digest = first.headers["x-weft-artifact"]
    pinned = await ask(client, digest)
    assert (200, digest) == (pinned.status_code, pinned.headers["x-weft-artifact"])
    assert "x-weft-ingredients" not in pinned.headers


async def test_a_conversation_keeps_its_choice(client: AsyncClient) -> None:
    """Later turns are answered by the same artifact."""
    first = await ask(client, "auto(; k=2)")
    turns = [QUESTION, {"role": "assistant", "content": "a"},
             {"role": "user", "content": "dwen: now the next letters of the alphabet"}]  # fmt: skip
    later = await ask(client, "auto(; k=2)", *turns)
    assert first.headers["x-weft-artifact"] == later.headers["x-weft-artifact"]


async def test_completions_are_chosen_by_their_prompt(client: AsyncClient) -> None:
    """Completions are chosen by `prompt`, since they have no messages."""
    response = await client.post(
        COMPLETIONS, json={"model": "auto(; k=1)", "prompt": "blim: apple"}
    )
    assert "blim@1" == response.headers["x-weft-ingredients"]


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("auto(; tag=nobody)", 404, "nothing_found"),
        ("auto(; k=99)", 400, "invalid_retrieval"),
        ('auto(; filter="rank~1")', 400, "invalid_filter"),
        ("auto(; method=nosuch)", 400, "invalid_recipe"),
        ("auto(; colour=red)", 400, "invalid_recipe"),
        ('auto(; filter="rank)', 400, "invalid_expression"),
    ],
)
async def test_mistakes_have_their_status(
    client: AsyncClient, model: str, status: int, code: str
) -> None:
    """A failed choice is an error in OpenAI's shape."""
    response = await ask(client, model)
    assert (status, code) == (response.status_code, response.json()["error"]["code"])


async def test_a_request_without_text_cannot_choose(client: AsyncClient) -> None:
    """Token ids and pictures alone are refused."""
    response = await client.post(COMPLETIONS, json={"model": "auto()", "prompt": [1, 2]})
    assert (400, "invalid_retrieval") == (response.status_code, response.json()["error"]["code"])
