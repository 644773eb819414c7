"""`weft adapters push` and `POST /registry/imports/hub` against a Hub on a loopback port."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient, Response
from huggingface_hub import close_session

from merge.peft_format import CONFIG_NAME, WEIGHTS_NAME
from tests.registry.sources.fake_hub import FakeHub, Repository
from tests.registry.sources.fake_hub_writes import Pushed
from tests.server.admin.conftest import problem
from tests.server.commands import DigestOf, adapter, failed, words
from tests.server.conftest import MakeClient, MakeGateway, Weft

OURS, THEIRS = "hf_of_the_environment", "hf_of_the_caller"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub; the environment has a token for it."""
    monkeypatch.setenv("HF_TOKEN", OURS)
    with FakeHub() as made:
        yield made
    close_session()


@pytest.fixture
def pushing(weft: Weft, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Weft:
    """Commands that know the Hub of the test."""
    monkeypatch.setenv("WEFT_HUB_ENDPOINT", hub.endpoint)
    return weft


def test_a_push_is_a_private_repository_to_import_from(
    pushing: Weft, hub: FakeHub, digest_of: DigestOf
) -> None:
    """The repository is created private, with config, weights and card in one commit whose message
    has the digest; its import has the same digest."""
    printed = words(pushing("adapters", "push", "zorp@prod", "hf:me/zorp"))
    made = hub.writes.repositories["me/zorp"]

    assert f"hf:me/zorp@{1:040x}" in printed
    assert made.private
    assert [f"zorp@1 of weft, digest {digest_of('zorp')}"] == made.messages
    assert {CONFIG_NAME, WEIGHTS_NAME, "README.md"} == set(made.files)
    assert b"base_model: weft/demo-llama" in made.files["README.md"]
    assert {f"Bearer {OURS}"} == set(hub.tokens)
    (item,) = json.loads(
        pushing("adapters", "import", "hf:me/zorp", "--name", "copy", "--json").stdout
    )
    assert (digest_of("zorp"), "copy@1") == (item["digest"], item["version"])


def test_nothing_private_is_put_where_everybody_reads(pushing: Weft, hub: FakeHub) -> None:
    """A public repository is written to only with --public, which also creates one."""
    hub.writes.repositories["me/open"] = Pushed()
    hub.repositories["me/open"] = Repository({})
    failed(pushing("adapters", "push", "zorp", "hf:me/open"), "is public", "--public")
    assert {} == hub.writes.repositories["me/open"].files
    words(pushing("adapters", "push", "zorp", "hf:me/open#sub/folder", "--public"))
    assert f"sub/folder/{WEIGHTS_NAME}" in hub.writes.repositories["me/open"].files
    words(pushing("adapters", "push", "zorp", "hf:me/new", "--public"))
    assert not hub.writes.repositories["me/new"].private


def test_what_the_hub_refuses_is_a_sentence(pushing: Weft, hub: FakeHub, tmp_path: Path) -> None:
    """A licence that the Hub does not know, a branch that is not there, and an address that is
    none end the command."""
    odd = Path(shutil.copytree(adapter("zorp"), tmp_path / "odd"))
    (odd / "README.md").write_text("---\nlicense: mine\n---\n")
    words(pushing("adapters", "import", odd, "--name", "odd"))
    failed(pushing("adapters", "push", "odd", "hf:me/odd"), "Nothing was written", '"license"')
    assert {} == hub.writes.repositories["me/odd"].files
    failed(pushing("adapters", "push", "zorp", "acme"), "is not a Hub address")
    failed(pushing("adapters", "push", "zorp", "hf:me/zorp@other"), "Nothing was written")


async def ask_for(client: AsyncClient, token: str | None = None, **changes: Any) -> Response:
    """Ask a server to import from the Hub."""
    body = {"name": "legal", "address": "hf:Acme/zorp"} | changes
    headers = {} if token is None else {"x-hub-token": token}
    return await client.post("/registry/imports/hub", json=body, headers=headers)


@pytest.fixture
def filled(hub: FakeHub) -> FakeHub:
    """A Hub with zorp."""
    files = {path.name: path.read_bytes() for path in adapter("zorp").iterdir() if path.is_file()}
    hub.repositories["Acme/zorp"] = Repository(files)
    return hub


@pytest.mark.parametrize("token", [THEIRS, None])
async def test_an_import_over_http_uses_the_token_of_its_caller(
    make_gateway: MakeGateway, make_client: MakeClient, filled: FakeHub, digest_of: DigestOf,
    token: str | None,
) -> None:  # fmt: skip
    """The Hub sees the caller's token, or none: never the server's; the version's source has the
    commit."""
    gateway = make_gateway(hub_endpoint=filled.endpoint, hub_owners="acme")
    async with make_client(gateway) as client:
        answer = await ask_for(client, token)
    version = answer.json()["version"]

    assert (201, digest_of("zorp")) == (answer.status_code, version["digest"])
    assert f"hf:Acme/zorp@{filled.repositories['Acme/zorp'].commit}" == version["source"]
    assert {None if token is None else f"Bearer {token}"} == set(filled.tokens)


@pytest.mark.parametrize("owners", ["", "other", "acme-labs"])
async def test_only_allowed_owners_are_asked_for(
    make_gateway: MakeGateway, make_client: MakeClient, filled: FakeHub, owners: str
) -> None:
    """Without WEFT_HUB_OWNERS, or for another owner, the Hub is not asked."""
    gateway = make_gateway(hub_endpoint=filled.endpoint, hub_owners=owners)
    async with make_client(gateway) as client:
        problem(await ask_for(client), 403, "hub_owner_refused")
    assert [] == filled.tokens


async def test_what_the_hub_lacks_or_admission_refuses_is_a_problem(
    make_gateway: MakeGateway, make_client: MakeClient, filled: FakeHub
) -> None:
    """An unknown repository is 404, a pickle 422 with the finding, and a path no address."""
    files = {"adapter_model.bin": b"x", CONFIG_NAME: b"{}"}
    filled.repositories["acme/pickled"] = Repository(files)
    gateway = make_gateway(hub_endpoint=filled.endpoint, hub_owners="*")
    async with make_client(gateway) as client:
        problem(await ask_for(client, address="hf:acme/none"), 404, "hub_not_found")
        problem(await ask_for(client, address="hf:acme/pickled"), 422, "admission_refused")
        problem(await ask_for(client, address="../etc"), 400, "invalid_hub_address")
