"""Policies on every way to a merge: requests, compositions, publishing, retrieval, jobs."""

from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

from registry.callers import Caller
from registry.errors import CompositionDenied
from registry.service import Registry
from server.gateway import Gateway
from server.jobs.pools import choose
from tests.server.admin.conftest import ClientOf, admin, client_of, problem
from tests.server.asgi import CHAT
from tests.server.conftest import BASE, Weft

__all__ = ["admin", "client_of"]  # fixtures
QUESTION = [{"role": "user", "content": "write the letters backwards with a dash between them"}]
PAIR = {"action": "deny", "selectors": ["adapter:zorp", "adapter:blim"], "reason": "not tested"}
EVERYTHING = Caller("ada")


async def ask(client: AsyncClient, model: str, **options: Any) -> Any:
    """Send a chat request and return the answer's document."""
    body = {"model": model, "messages": QUESTION} | options
    response = await client.post(CHAT, json=body)
    return response.json() | {"status": response.status_code, "headers": response.headers}


async def test_every_name_of_a_merge_is_refused(admin: AsyncClient) -> None:
    """A rule refuses an expression, a composition, a digest, a published merge and its merges,
    all of which were served before it, and serves them again once it is removed.
    """
    expression = {"expression": "cat(zorp, blim)"}
    path = "/registry/compositions/mix/-/versions"
    assert 201 == (await admin.post(path, json=expression)).status_code
    publish = {"adapter": "both"}
    assert 201 == (await admin.post(f"{path}/1/publish", json=publish)).status_code
    digest = (await ask(admin, "mix"))["headers"]["x-weft-artifact"]
    names = ("cat(zorp, blim)", "linear(blim, zorp@1; rank=8)", "mix", "mix@1", digest, "both",
             "linear(both, tref; rank=8)")  # fmt: skip
    for name in names:
        assert 200 == (await ask(admin, name))["status"], name

    policy = (await admin.post("/registry/policies", json=PAIR)).json()
    for name in names:
        answer = await ask(admin, name)
        assert (403, "composition_denied") == (answer["status"], answer["error"]["code"]), name
        assert f"Policy {policy['id']} denies" in answer["error"]["message"]
        assert "not tested" in answer["error"]["message"]
    for name in ("zorp", "blim", "cat(zorp, tref)"):
        assert 200 == (await ask(admin, name))["status"], name

    response = await admin.post(path, json={"expression": "linear(zorp, blim)"})
    assert policy["id"] == problem(response, 403, "composition_denied")["policy"]
    response = await admin.post(f"{path}/1/publish", json={"adapter": "again"})
    problem(response, 403, "composition_denied")
    assert 403 == (await admin.get("/v1/models/cat(zorp, blim)")).status_code

    removed = await admin.delete(f"/registry/policies/{policy['id']}")
    assert 204 == removed.status_code
    for name in names:
        assert 200 == (await ask(admin, name))["status"], name


async def test_a_retrieval_avoids_what_is_denied(admin: AsyncClient) -> None:
    """`auto()` passes over adapters that a rule keeps out, and is served with the next ones."""
    first = (await ask(admin, "auto(; k=2, method=cat)"))["headers"]["x-weft-ingredients"]
    best, second = (reference.partition("@")[0] for reference in first.split(", "))
    rule = PAIR | {"selectors": [f"adapter:{best}", f"adapter:{second}"]}
    assert 201 == (await admin.post("/registry/policies", json=rule)).status_code
    then = (await ask(admin, "auto(; k=2, method=cat)"))["headers"]["x-weft-ingredients"]
    assert f"{best}@1" in then
    assert f"{second}@1" not in then
    assert (
        201
        == (await admin.post("/registry/policies", json=PAIR | {"selectors": ["any"]})).status_code
    )
    assert "nothing_found" == (await ask(admin, "auto(; k=2)"))["error"]["code"]


async def test_only_admins_of_the_server_see_and_change_rules(client_of: ClientOf) -> None:
    """Rules are about all namespaces: admins of one neither list, add nor remove them."""
    team = await client_of("admin", "team")
    problem(await team.get("/registry/policies"), 403, "access_denied")
    problem(await team.post("/registry/policies", json=PAIR), 403, "access_denied")
    problem(await team.delete("/registry/policies/1"), 403, "access_denied")
    admin = await client_of("admin")
    problem(await admin.delete("/registry/policies/1"), 404, "policy_not_found")
    bad = PAIR | {"selectors": ["law"]}
    problem(await admin.post("/registry/policies", json=bad), 400, "invalid_policy")


def test_pools_of_jobs_keep_to_the_rules(gateway: Gateway, registry: Registry) -> None:
    """A filter leaves out what no merge may have, and naming it is refused."""
    registry.access.policies.add("deny", ["adapter:zorp"], reason="not tested")
    entries = choose(registry, "", base=BASE, caller=EVERYTHING)
    assert 7 == len(entries)
    assert "zorp@1" not in [entry.reference for entry in entries]
    with pytest.raises(CompositionDenied, match="merging zorp@prod"):
        choose(registry, ["zorp@prod"], base=BASE, caller=EVERYTHING)


def test_the_command_line_manages_rules(anywhere: Weft) -> None:
    """`weft policies` adds, lists and removes rules, at home and on a server."""
    added = anywhere("policies", "add", "deny", "tag:a", "any", "--reason", "why")
    assert "policy 1: deny tag:a with any" in added.output, added.output
    assert '"selectors": [' in anywhere("policies", "list", "--json").output
    assert "why" in anywhere("policies", "list").output
    assert 0 == anywhere("policies", "remove", 1).exit_code
    assert 0 != anywhere("policies", "remove", 1).exit_code


def test_recipe_files_keep_to_the_rules(weft: Weft, registry: Registry, tmp_path: Path) -> None:
    """`weft merge` refuses a recipe file whose names a rule keeps apart."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{method: cat, adapters: [{name: zorp@1}, {name: blim@1}]}")
    registry.access.policies.add("deny", ["adapter:zorp", "any"], reason="not tested")
    result = weft("merge", recipe, "--out", tmp_path / "out")
    assert 0 != result.exit_code
    assert "denies merging zorp@1 and blim@1" in result.output
    assert not (tmp_path / "out").exists()
