"""The HTTP API on the fake engine: requests, and the status and message of their answers."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient, Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merge.peft_format import CONFIG_NAME
from registry.references import parse_reference
from registry.service import Registry
from registry.storage.blobs import LocalBlobs
from server.artifacts.store import ArtifactStore
from server.engine.fake import FakeEngine
from server.gateway import Gateway
from tests.adapters import make_adapter
from tests.server.asgi import CHAT, COMPLETIONS, Exchange
from tests.server.conftest import BASE, MakeClient, MakeGateway

JSON = {"content-type": "application/json"}

OTHER_BASE = "acme/other"


async def ask(client: AsyncClient, model: str, **extra: Any) -> Response:
    """Send one chat request."""
    messages = [{"role": "user", "content": "zorp: banana"}]
    return await client.post(CHAT, json={"model": model, "messages": messages, **extra})


def told(response: Response) -> dict[str, Any]:
    """Return the error of a response in OpenAI's shape."""
    error: dict[str, Any] = response.json()["error"]
    assert {"message", "type", "param", "code"} == set(error)
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


async def test_the_base_answers_under_its_own_name(client: AsyncClient) -> None:
    """A request that names the base reaches the engine under the base's name."""
    response = await ask(client, BASE)
    assert response.status_code == 200
    assert response.json()["model"] == BASE


@pytest.mark.parametrize("reference", ["zorp", "zorp@1", "zorp@prod"])
async def test_an_adapter_answers_by_any_reference(
    client: AsyncClient, digest_of: Callable[[str], str], reference: str
) -> None:
    """Name, version and alias of an adapter are answered by the digest that they resolve to."""
    assert (await ask(client, reference)).json()["model"] == digest_of("zorp")


async def test_an_adapter_answers_by_its_digest(
    client: AsyncClient, digest_of: Callable[[str], str]
) -> None:
    """A version's digest is a reference too."""
    assert (await ask(client, digest_of("zorp"))).json()["model"] == digest_of("zorp")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("stream", [False, True])
async def test_both_routes_answer_whole_and_streamed(
    client: AsyncClient, path: str, stream: bool
) -> None:
    """Chat and completions are relayed, as JSON or as events, from the same engine route."""
    response = await client.post(path, json={"model": "zorp", "prompt": "x", "stream": stream})
    assert response.status_code == 200
    assert stream == response.text.endswith("data: [DONE]\n\n")
    assert stream == response.headers["content-type"].startswith("text/event-stream")


async def test_a_moved_alias_changes_the_very_next_request(
    client: AsyncClient, registry: Registry, demo_adapters: Path, digest_of: Callable[[str], str]
) -> None:
    """An alias is resolved on each request, and the old version stays under its digest."""
    before = (await ask(client, "zorp@prod")).json()["model"]
    registry.adapters.register(demo_adapters / "blim", name="zorp", base=BASE, alias="prod")
    assert (await ask(client, "zorp@prod")).json()["model"] == digest_of("blim")
    assert (await ask(client, before)).json()["model"] == before


async def test_a_composition_is_merged_and_answers(client: AsyncClient) -> None:
    """An expression is answered by a new digest, and by the same one the second time."""
    first = await ask(client, "lego(zorp, blim; rank=16)")
    assert first.status_code == 200, first.text
    assert first.json()["model"] == (await ask(client, "lego(zorp,blim;rank=16)")).json()["model"]


async def test_server_timing_tells_the_stages(client: AsyncClient) -> None:
    """A composition's first answer has the times of resolving, merging, loading and the engine."""
    header = (await ask(client, "cat(zorp, blim)")).headers["server-timing"]
    names = [part.strip().partition(";dur=")[0] for part in header.split(",")]
    assert names == ["resolve", "merge", "load", "engine"]


async def test_a_composition_answers_by_name(client: AsyncClient, gateway: Gateway) -> None:
    """A composition's name is answered by the artifact of its recipe."""
    name = compose(gateway, "mix", "cat(zorp, blim)")
    by_name = (await ask(client, name)).json()["model"]
    assert by_name == (await ask(client, "cat(zorp, blim)")).json()["model"]


def compose(gateway: Gateway, name: str, text: str, *, written: str = "") -> str:
    """Create a composition of an expression, perhaps with another text; return its reference."""
    from server.compose.expression import Expression, parse_model

    parsed = parse_model(text)
    assert isinstance(parsed, Expression)
    recipe = gateway.resolver.plan(parsed)
    gateway.registry.compositions.add(
        name, expression=written or text, recipe_text=recipe.canonical(),
        recipe_digest=recipe.digest(), base=recipe.base, ingredients=recipe.lineage, actor="test",
    )  # fmt: skip
    return name


@pytest.mark.parametrize(
    ("model", "status", "code", "says"),
    [
        ("lego(zorp", 400, "invalid_expression", "^"),
        ("zorp blim", 400, "invalid_expression", "' + '"),
        ("Zorp", 400, "invalid_expression", "lower-case"),
        ("nothing(zorp)", 400, "invalid_recipe", "lego"),
        ("lego(zorp; colour=3)", 400, "invalid_recipe", "colour"),
        ("lego(zorp; rank=0)", 400, "invalid_recipe", "rank"),
        ("cat()", 400, "invalid_recipe", "at least one"),
        ("0*zorp", 400, "invalid_recipe", "every weight is 0"),
        ("lego(zorp; rank=65)", 400, "invalid_recipe", "64"),
        ("zrop", 404, "model_not_found", "zorp"),
        ("zorp@9", 404, "model_not_found", "zorp@9"),
        ("zorp@prd", 404, "model_not_found", "zorp@prod"),
        ("0" * 64, 404, "model_not_found", "0" * 64),
        ("cat(zorp, blimm)", 404, "model_not_found", "blim"),
        ("1e30*zorp", 422, "merge_too_large", "WEFT_MERGE_MAX_WEIGHT"),
        ("cat(1e4*zorp)", 422, "unsafe_result", "norm"),
        ("cat(1e300*zorp)", 422, "merge_too_large", "weight"),
        ("cat(zorp; scale=1e6)", 422, "merge_too_large", "scale"),
    ],
)
async def test_a_client_s_mistake_is_told_with_its_status(
    client: AsyncClient, model: str, status: int, code: str, says: str
) -> None:
    """Each kind of mistake has its own status and code, and its message says what to do."""
    response = await ask(client, model)
    error = told(response)
    assert (status, code) == (response.status_code, error["code"])
    assert says in error["message"]


async def test_the_caret_stands_under_the_mistake(client: AsyncClient) -> None:
    """The message of a bad expression shows the text with a caret below the place."""
    lines = told(await ask(client, "cat(zorp, ?)"))["message"].splitlines()
    assert lines[1].index("?") == lines[2].index("^")


async def test_members_of_other_shapes_are_a_conflict(
    client: AsyncClient, registry: Registry, tmp_path: Path
) -> None:
    """An adapter of another base cannot be merged or asked here: 409 names it and its base."""
    shapes = {name: (out, into) for name, (into, out) in _modules().items()}
    registry.bases.add(OTHER_BASE, shapes=shapes, architecture="LlamaForCausalLM")
    folder = make_adapter(tmp_path / "foreign", modules=_modules(), base=OTHER_BASE)
    registry.adapters.register(folder, name="foreign")
    mixed, alone = await ask(client, "cat(zorp, foreign)"), await ask(client, "foreign")
    assert [409, 409] == [mixed.status_code, alone.status_code]
    assert ["incompatible_adapters", "wrong_base"] == [told(mixed)["code"], told(alone)["code"]]
    assert "foreign" in told(mixed)["message"]
    assert OTHER_BASE in told(alone)["message"]


def _modules() -> dict[str, tuple[int, int]]:
    return {"model.layers.0.self_attn.q_proj": (16, 16)}


async def test_a_retired_version_is_gone(
    client: AsyncClient, registry: Registry, demo_adapters: Path
) -> None:
    """A retired version is 410 by number and as an ingredient; the name goes on to the next."""
    registry.adapters.register(demo_adapters / "blim", name="zorp", base=BASE, alias="prod")
    registry.versions.retire(parse_reference("zorp@1"), "test")
    for model in ("zorp@1", "cat(zorp@1)"):
        response = await ask(client, model)
        assert (410, "version_retired") == (response.status_code, told(response)["code"])
    assert (await ask(client, "zorp")).status_code == 200


async def test_a_rank_above_the_engine_s_is_refused_with_a_way_out(
    make_gateway: MakeGateway, make_client: MakeClient
) -> None:
    """An adapter that the engine's slots cannot take is 422 and says which merge would do."""
    async with make_client(make_gateway(max_lora_rank=8)) as client:
        response = await ask(client, "plov")
        error = told(response)
        assert (422, "rank_too_large") == (response.status_code, error["code"])
        assert "linear(plov; rank=8)" in error["message"]
        assert (await ask(client, "linear(plov; rank=8)")).status_code == 200


@pytest.mark.parametrize("model", ["zorp", BASE, "cat(zorp, blim)"])
async def test_a_starting_engine_is_503_with_retry_after(
    client: AsyncClient, engine: FakeEngine, model: str
) -> None:
    """While the engine is unavailable every model is 503, with the seconds to wait before a
    retry.
    """
    engine.up = False
    response = await ask(client, model)
    assert (503, "engine_unavailable") == (response.status_code, told(response)["code"])
    assert int(response.headers["retry-after"]) > 0


async def test_mistakes_are_told_while_the_engine_is_away(
    client: AsyncClient, engine: FakeEngine
) -> None:
    """An unknown name is 404 even while the engine is unavailable."""
    engine.up = False
    assert (await ask(client, "nonsense")).status_code == 404


async def test_an_artifact_is_no_ingredient(client: AsyncClient) -> None:
    """A merge of an artifact is refused, and the message says what to do instead."""
    digest = (await ask(client, "cat(zorp, blim)")).json()["model"]
    response = await ask(client, f"cat({digest}, tref)")
    assert (400, "not_an_ingredient") == (response.status_code, told(response)["code"])


async def test_what_the_engine_refuses_is_told_in_its_words(
    client: AsyncClient, engine: FakeEngine, digest_of: Callable[[str], str]
) -> None:
    """The engine's reason for refusing an adapter reaches the client with status 422."""
    engine.refuse[digest_of("zorp")] = "slots are made of cheese"
    response = await ask(client, "zorp")
    assert (422, "engine_refused") == (response.status_code, told(response)["code"])
    assert "cheese" in told(response)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", CHAT, 405), ("POST", "/v1/models", 405)],
)
async def test_a_wrong_route_is_told_in_the_envelope(
    client: AsyncClient, method: str, path: str, status: int
) -> None:
    """Unknown paths and methods are answered in OpenAI's shape."""
    response = await client.request(method, path)
    assert status == response.status_code
    told(response)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"zorp"', b"{}", b'{"model": 3}', b'{"model": null}',
     b'{"model": ""}', b'{"model": "  "}', b'{"model": ["zorp"]}', b"\xff\xfe", b"[" * 100_000,
     b"9" * 5000],
)  # fmt: skip
async def test_a_body_that_is_no_request_is_400(client: AsyncClient, body: bytes) -> None:
    """A body that is not an object with a model's name is 400, and the message names what is
    missing.
    """
    response = await client.post(CHAT, content=body, headers=JSON)
    assert (400, "invalid_request") == (response.status_code, told(response)["code"])


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
names = st.sampled_from(["zorp", "blim", BASE, "1.5*zorp", "zorp@prod", "nothing", "zorp@1@2"])
unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
bodies = st.dictionaries(
    st.sampled_from(["stream", "echo", "logprobs", "prompt_logprobs", "messages", "n"])
    | st.text(max_size=8),
    scalars | st.lists(scalars, max_size=3),
    max_size=4,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(model=names | unicode_text, rest=bodies)
async def test_no_body_makes_the_server_fail(
    client: AsyncClient, model: str, rest: dict[str, Any]
) -> None:
    """No JSON body is answered with 5xx."""
    import json

    body = json.dumps({**rest, "model": model}).encode()
    response = await client.post(CHAT, content=body)
    assert response.status_code < 500, response.text


async def test_a_body_may_come_in_pieces(gateway: Gateway) -> None:
    """A body is read to its end, however it is split."""
    from server.app import create_app

    exchange = Exchange(CHAT, b'{"mod', b'el": "', BASE.encode(), b'"}')
    await exchange.run(create_app(gateway))
    assert exchange.status == 200


async def test_text_that_is_no_unicode_is_400(client: AsyncClient) -> None:
    """An unpaired surrogate, which JSON can escape and UTF-8 cannot encode, is 400."""
    for body in (rb'{"model": "\ud800"}', rb'{"model": "lego(zorp; rank=\udfff)"}'):
        response = await client.post(CHAT, content=body, headers=JSON)
        assert response.status_code == 400
        told(response)


async def test_a_full_disk_while_staging_is_told_as_full(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, while a version is staged or a workspace is made, is 507."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", full)
        response = await client.post(CHAT, json={"model": "zorp"})
        assert (507, "storage_full") == (response.status_code, told(response)["code"])
    with monkeypatch.context() as patch:
        patch.setattr(ArtifactStore, "workspace", full)
        response = await client.post(CHAT, json={"model": "cat(zorp, blim)"})
        assert (507, "storage_full") == (response.status_code, told(response)["code"])
    assert (await client.post(CHAT, json={"model": "zorp"})).status_code == 200


async def test_a_corrupt_version_never_reaches_the_store(
    client: AsyncClient, gateway: Gateway, versions: LocalBlobs, digest_of: Callable[[str], str]
) -> None:
    """Changed files of the registry are reported as corrupt, and nothing is staged."""
    config = versions.path(digest_of("zorp")) / CONFIG_NAME
    text = config.read_text()
    config.unlink()
    config.write_text(text + " ")
    response = await client.post(CHAT, json={"model": "zorp"})
    assert (500, "registry_error") == (response.status_code, told(response)["code"])
    assert frozenset() == gateway.artifacts.digests()


async def test_a_composed_rank_above_the_engine_s_is_refused_before_it_is_merged(
    make_gateway: MakeGateway, make_client: MakeClient
) -> None:
    """An older composition whose rank is above the engine's current limit is 422."""
    compose(make_gateway(max_lora_rank=64), "wide", "linear(zorp, blim, plov; rank=32)")
    small = make_gateway(max_lora_rank=16)
    async with make_client(small) as client:
        response = await client.post(CHAT, json={"model": "wide"})
    assert (422, "rank_too_large") == (response.status_code, told(response)["code"])
    assert frozenset() == small.artifacts.digests()
