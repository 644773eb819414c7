"""The pages of the registry: imports, artifacts, usage, keys, changes, garbage."""

from collections.abc import AsyncIterator

import pytest
from httpx import AsyncClient
from nicegui import ui
from nicegui.testing import User

from registry.callers import KeyLimits
from registry.service import Registry
from server.console.api.files import Finding
from server.console.api.keys import Key, NewKey, Usage
from server.console.pages.registry.imports import finding_text
from server.console.pages.registry.usage import usage_options
from server.gateway import Gateway
from tests.server.asgi import CHAT
from tests.server.console.conftest import SignIn, console_on

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def operator(gateway: Gateway) -> AsyncIterator[User]:
    """A browser on the test's own gateway, which has no keys."""
    async with console_on(gateway) as browser:
        yield browser()


async def test_imports_are_listed(user: User) -> None:
    """Every version is listed with the findings of its admission, and refused imports apart."""
    await user.open("/registry")
    await user.should_see("zorp@1", retries=30)
    await user.open("/registry?outcome=refused")
    await user.should_see("No import was refused.", retries=30)


def test_a_finding_is_a_sentence() -> None:
    """A finding says where it is, what was expected and what was found."""
    finding = Finding(
        severity="warn", code="A052 zero-update", file="adapter_model.safetensors",
        tensor="q_proj.lora_B", expected="an update", found="all zeros",
    )  # fmt: skip
    assert finding_text(finding) == (
        "warn: A052 zero-update in adapter_model.safetensors, q_proj.lora_B: expected an update, "
        "found all zeros"
    )


async def test_a_key_is_made_and_shown_once(user: User, registry: Registry) -> None:
    """A new key is shown in a dialog, works, and is nowhere once the dialog is closed."""
    await user.open("/registry/keys")
    await user.should_see("Create a key", retries=30)
    user.find(marker="key-name").type("ci")
    user.find("Create a key").click()
    await user.should_see("It is shown only now", retries=30)
    (shown,) = user.find(marker="new-key").elements
    key = str(shown.text)  # type: ignore[attr-defined]
    caller = registry.access.keys.live(None).caller(key)
    assert caller is not None
    assert ("ci", "chat") == (caller.name, caller.role)
    user.find("Close").click()
    await user.should_not_see(key)
    await user.should_see("weft_", retries=30)


async def test_a_refused_key_is_told(user: User) -> None:
    """A key that the server refuses to make is told in its words."""
    await user.open("/registry/keys")
    await user.should_see("Create a key", retries=30)
    user.find(marker="key-name").type("not a name")
    user.find("Create a key").click()
    await user.should_see("name", retries=30)
    await user.should_not_see("It is shown only now", retries=1)


async def test_an_operator_sets_a_key_s_limits(user: User, registry: Registry) -> None:
    """The limits of a key are told in its row, and replaced in a dialog."""
    registry.access.keys.create("ci", role="chat", all_namespaces=True)
    await user.open("/registry/keys")
    await user.should_see("the server's", retries=30)
    user.find(marker="limit-ci").click()
    await user.should_see("0 allows nothing", retries=30)
    with user:
        for marker, value in (("tokens", 5_000_000), ("build_seconds", 2.5)):
            (field,) = user.find(kind=ui.number, marker=marker).elements
            field.value = value
    user.find("Set limits").click()
    await user.should_see("5,000,000 tokens, 2.5 seconds of builds", retries=30)
    (key,) = registry.access.keys.page().items
    assert KeyLimits(tokens=5_000_000, build_seconds=2.5) == key.limits


async def test_a_key_is_revoked(user: User, registry: Registry) -> None:
    """A key is revoked after a question, and stays in the list as revoked."""
    registry.access.keys.create("ci", role="read", all_namespaces=True)
    await user.open("/registry/keys")
    await user.should_see("Revoke", retries=30)
    user.find(marker="revoke-ci").click()
    await user.should_see("Revoke the key ci?")
    user.find("End it").click()
    await user.should_see("revoked 20", retries=30)
    assert not registry.access.keys.live(None).callers


def test_a_new_key_is_in_no_representation() -> None:
    """What a log could show of a new key has its name, not the key."""
    about = Key.model_validate({
        "name": "ci", "prefix": "weft_ab", "role": "read", "namespace": None,
        "all_namespaces": True, "limits": {}, "created_at": "2026-11-29T18:00:00Z",
        "created_by": "ada", "last_used_at": None, "revoked_at": None,
    })  # fmt: skip
    made = NewKey(key="weft_secret", about=about)
    assert "secret" not in f"{made!r} {made}"


async def test_changes_are_found(user: User) -> None:
    """Changes are listed, all of them or those like the query."""
    await user.open("/registry/audit")
    await user.should_see("alias.moved", retries=30)
    await user.open("/registry/audit?action=key.created")
    await user.should_see("No change is like that.", retries=30)
    await user.should_see("Show all changes")


async def test_garbage_is_removed(user: User) -> None:
    """Garbage is removed after a question, and the page says what was freed."""
    await user.open("/registry/garbage")
    await user.should_see("There is no garbage", retries=30)
    user.find("Remove the garbage").click()
    await user.should_see("was not used for 7 days")
    user.find("Remove them").click()
    await user.should_see("Removed 0 B", retries=30)


async def test_a_grace_period_that_is_none_is_refused(user: User) -> None:
    """A number of days that is none is refused in the API's words."""
    await user.open("/registry/garbage?days=soon")
    await user.should_see("grace_days", retries=30)


async def test_artifacts_are_listed_shown_and_removed(operator: User, client: AsyncClient) -> None:
    """A merge is listed with its size; its page has its recipe, its report and its removal."""
    await operator.open("/registry/artifacts")
    await operator.should_see("Nothing was merged yet.", retries=30)
    body = {"model": "cat(zorp, blim)", "messages": MESSAGES}
    digest = (await client.post(CHAT, json=body)).json()["model"]
    await operator.open("/registry/artifacts")
    await operator.should_see(digest, retries=30)
    await operator.open(f"/registry/artifacts/{digest}")
    await operator.should_see("Report of the merge", retries=30)
    operator.find("Remove the artifact").click()
    await operator.should_see("Remove this artifact")
    operator.find("Remove it").click()
    await operator.should_see("no: the next request builds it again", retries=30)


async def test_a_reader_gets_the_refusal_if_it_forces_it(
    sign_in: SignIn, registry: Registry
) -> None:
    """A role does not see what it may not open; by the address it gets the API's refusal."""
    _, key = registry.access.keys.create("reader", role="read", all_namespaces=True)
    reader = await sign_in(key)
    await reader.open("/registry")
    await reader.should_see("Usage")
    await reader.should_not_see("Keys", retries=1)
    await reader.should_not_see("Garbage", retries=1)
    await reader.open("/registry/keys")
    await reader.should_see("the request needs the role admin", retries=30)
    await reader.should_not_see("Create a key", retries=1)


def test_usage_is_drawn_by_day_and_key() -> None:
    """The chart has a bar for each day, in the colours of the keys that used most."""

    def used(day: str, key: str, tokens: int) -> Usage:
        return Usage(
            day=day, key=key, namespace=None, requests=1, prompt_tokens=tokens,
            completion_tokens=0, compositions=0, build_seconds=0.0,
        )  # fmt: skip

    rows = [used("2026-11-29", "ci", 5), used("2026-11-28", "ci", 7)]
    rows += [used("2026-11-29", f"small-{n}", 1) for n in range(10)]
    options = usage_options(rows)
    assert ["2026-11-28", "2026-11-29"] == options["xAxis"]["data"]
    names = [series["name"] for series in options["series"]]
    assert ("ci", "other keys", 9) == (names[0], names[-1], len(names))
    assert [7, 5] == options["series"][0]["data"]
    assert [0, 3] == options["series"][-1]["data"]
