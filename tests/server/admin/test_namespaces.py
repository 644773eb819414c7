"""Private records do not exist for other callers, on any route."""

from collections.abc import Callable
from pathlib import Path

import pytest
from httpx import AsyncClient

from registry.service import Registry
from server.gateway import Gateway
from tests.reading import read_adapter
from tests.server.admin.conftest import ClientOf, problem
from tests.server.asgi import CHAT
from tests.server.conftest import BASE
from tests.server.test_api import compose, told

DigestOf = Callable[[str], str]


@pytest.fixture
async def team(client_of: ClientOf, private: str) -> AsyncClient:
    """A caller who cannot see `private`."""
    return await client_of("chat", "team")


@pytest.fixture
async def other(client_of: ClientOf, private: str) -> AsyncClient:
    """The caller who owns `private`."""
    return await client_of("chat", "other")


async def status(client: AsyncClient, model: str) -> tuple[int, str]:
    """Return status and code of a chat request, or the model that answered."""
    messages = [{"role": "user", "content": "zorp: banana"}]
    response = await client.post(CHAT, json={"model": model, "messages": messages})
    if response.status_code == 200:
        return 200, response.json()["model"]
    return response.status_code, told(response)["code"]


HIDDEN = (404, "model_not_found")


@pytest.mark.parametrize(
    "model",
    ["other/hidden", "other/hidden@1", "other/hidden@prod", "cat(other/hidden)",
     "cat(zorp, other/hidden@prod; scale=0.5)", "zorp + other/hidden"],
)  # fmt: skip
async def test_a_cached_private_adapter_is_not_served_to_others(
    team: AsyncClient, other: AsyncClient, model: str
) -> None:
    """Other callers get the answer for an unknown name on every request, even after the owner
    has merged and loaded the adapter.
    """
    assert HIDDEN == await status(team, model)
    code, digest = await status(other, model)
    assert code == 200
    assert HIDDEN == await status(team, model)
    assert HIDDEN == await status(team, digest)
    assert (200, digest) == await status(other, digest)


async def test_a_composition_is_as_private_as_its_ingredients(
    team: AsyncClient, other: AsyncClient, gateway: Gateway
) -> None:
    """A public composition gives no access to its ingredients: each is checked at each request."""
    compose(gateway, "mix", "cat(zorp, other/hidden)")
    assert HIDDEN == await status(team, "mix")
    code, digest = await status(other, "mix")
    assert code == 200
    assert HIDDEN == await status(team, "mix@1")
    assert HIDDEN == await status(team, digest)


async def test_a_change_of_visibility_counts_at_the_next_request(
    team: AsyncClient, other: AsyncClient, registry: Registry
) -> None:
    """A change of visibility applies to the next request, even if the adapter is loaded."""
    for visibility, expected in (("public", 200), ("private", 404)):
        registry.versions.set_visibility("other/hidden", visibility, "test")  # type: ignore[arg-type]  # either
        for model in ("other/hidden", "cat(zorp, other/hidden)"):
            assert expected == (await status(team, model))[0]


async def test_the_hidden_is_told_like_the_unknown(team: AsyncClient, private: str) -> None:
    """The error for a hidden name equals that for an unknown one, and suggests no hidden name."""
    messages = [{"role": "user", "content": "x"}]

    async def message(model: str) -> str:
        response = await team.post(CHAT, json={"model": model, "messages": messages})
        return str(told(response)["message"]).replace(model, "NAME")

    assert await message("other/hidden") == await message("other/xqzvwk")
    assert "other/hidden" not in await message("other/hiden")


async def test_models_lists_what_the_caller_may_use(
    team: AsyncClient, other: AsyncClient, gateway: Gateway, registry: Registry
) -> None:
    """Names, aliases and compositions of private adapters are in no other caller's list or
    lookup.
    """
    compose(gateway, "mix", "cat(zorp, other/hidden)")
    hidden = {"other/hidden", "other/hidden@prod", "mix"}
    for client, expected in ((team, set()), (other, hidden)):
        cards = (await client.get("/v1/models")).json()["data"]
        assert expected == {card["id"] for card in cards} & hidden
        for model in hidden | {
            "other/hidden@1",
            read_adapter(registry, "other/hidden").versions[0].digest,
        }:
            response = await client.get(f"/v1/models/{model}")
            assert (200 if expected else 404) == response.status_code


async def test_nothing_of_it_shows_anywhere(
    client_of: ClientOf, private: str, gateway: Gateway, registry: Registry
) -> None:
    """No list, search, lineage or log shows another role the name or the digest."""
    digest = read_adapter(registry, private).versions[0].digest
    compose(gateway, "other/mix", "cat(zorp, other/hidden)")
    client = await client_of("admin", "team")
    zorp = read_adapter(registry, "zorp").versions[0].digest
    for path in (
        "/v1/models", "/registry/adapters", "/registry/compositions", "/registry/artifacts",
        f"/registry/lineage/{zorp}", "/registry/audit", "/registry/keys", "/registry/bases",
        "/registry/search", "/registry/search?text=hidden+krun", "/registry/search?like=zorp",
        "/registry/search?filter=name%3Dother/",
    ):  # fmt: skip
        response = await client.get(path)
        assert response.status_code == 200, path
        assert not [text for text in (private, digest, "other/mix") if text in response.text], path


PATHS = (
    "adapters/{}", "adapters/{}/-/versions", "adapters/{}/-/versions/1", "adapters/{}/-/aliases",
    "adapters/{}/-/alias-moves", "adapters/{}/-/tags", "adapters/{}/-/examples",
    "adapters/{}/-/versions/1/evaluations", "search?like={}",
)  # fmt: skip


async def test_every_route_hides_it(client_of: ClientOf, private: str) -> None:
    """A private adapter's routes answer other callers with 404, as for an unknown name."""
    team, other = await client_of("admin", "team"), await client_of("admin", "other")
    for path in PATHS:
        response = await other.get(f"/registry/{path.format(private)}")
        assert response.status_code == 200, (path, response.text)
        problem(await team.get(f"/registry/{path.format(private)}"), 404, "model_not_found")


async def test_an_import_names_no_hidden_duplicate(
    client_of: ClientOf, private: str, registry: Registry, hidden_folder: Path
) -> None:
    """An import does not reveal equal content in another namespace."""
    from server.cli.client import tar_of

    for namespace, expected in (("team", []), ("other", ["other/hidden@1"])):
        client = await client_of("publish", namespace)
        response = await client.post(
            f"/registry/adapters/{namespace}/copy/-/versions", params={"base": BASE},
            content=b"".join(tar_of(hidden_folder)),
        )  # fmt: skip
        assert response.status_code == 201, response.text
        assert expected == [
            found["reference"] for found in response.json()["similar"]
            if not found["reference"].startswith("team/")
        ]  # fmt: skip
