"""The page Compose on a real gateway: drafting, explaining, building, saving, publishing."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import FastAPI
from httpx import ASGITransport, Request, Response
from nicegui import ui
from nicegui.elements.mixins.value_element import ValueElement
from nicegui.testing import User

from registry.callers import Role
from registry.service import Registry
from server.app import create_app
from server.gateway import Gateway
from tests.server.console.conftest import SignIn, console_on

Valued = TypeVar("Valued", bound=ValueElement[Any])


def address(**parameters: str) -> str:
    """Return the page's address with parameters."""
    return f"/compose?{urlencode(parameters)}"


class Answering(ASGITransport):
    """A gateway some of whose paths are answered with a JSON of the test's."""

    def __init__(self, app: FastAPI, answers: Mapping[str, object]) -> None:
        super().__init__(app)
        self._answers = answers

    async def handle_async_request(self, request: Request) -> Response:
        """Answer from the test's, or by the gateway."""
        if request.url.path in self._answers:
            return Response(200, json=self._answers[request.url.path], request=request)
        return await super().handle_async_request(request)


async def soon(user: User, text: str | None = None, **asked: Any) -> None:
    """Wait until the user sees a text, in the page or in a notification, or an element."""
    named = {} if text is None else {"target": text}
    await user.should_see(retries=200, **named, **asked)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.02)


def text_of(user: User, marker: str) -> str:
    """Return what a field of text holds."""
    return str(only(user, ui.textarea, marker).value)


def cells(user: User) -> set[str]:
    """Return the texts of all cells of tables."""
    return {str(getattr(cell, "text", "")) for cell in user.find(marker="cell").elements}


def only(user: User, kind: type[Valued], marker: str) -> Valued:
    """Return the one element of this kind and marker."""
    (element,) = user.find(kind=kind, marker=marker).elements
    return element


async def test_an_expression_in_the_address_becomes_the_draft(user: User) -> None:
    """The page opens with an expression's ingredients, its JSON, and its explanation."""
    await user.open(address(model="linear(zorp, 0.5*blim@prod; rank=8)"))
    await soon(user, marker="ingredient blim@prod")
    await soon(user, "Shares of the norm")
    await soon(user, "Cosines between the updates")
    assert {
        "method": "linear", "options": {"rank": 8},
        "adapters": [{"name": "zorp"}, {"name": "blim@prod", "weight": 0.5}],
    } == json.loads(text_of(user, "json"))  # fmt: skip


async def test_controls_write_the_expression_and_the_json(user: User) -> None:
    """A slider, a picked adapter and an option are in both texts, as the server writes them."""
    await user.open(address(model="linear(zorp, blim)"))
    await soon(user, marker="option rank")
    await soon(user, marker="weight zorp")
    with user:
        only(user, ui.slider, "weight zorp").value = 0.25
        only(user, ui.input, "option rank").value = "8"
    user.find(marker="add dwen@1").click()
    await soon(user, marker="ingredient dwen@1")
    await until(lambda: text_of(user, "expression") == "linear(0.25*zorp, blim, dwen@1; rank=8)")
    assert {"rank": 8} == json.loads(text_of(user, "json"))["options"]


async def test_json_writes_the_controls_and_the_expression(user: User) -> None:
    """An edited JSON is drawn at once, and the expression follows; one that is wrong says where."""
    await user.open("/compose")
    await soon(user, "The composition has no ingredient yet")
    with user:
        only(user, ui.textarea, "json").value = '{"method": "ties", "adapters": [{"name": "zorp"}]}'
    await soon(user, "TIES: trim to the largest entries")
    await until(lambda: text_of(user, "expression") == "ties(zorp)")
    with user:
        only(user, ui.textarea, "json").value = '{"method": "ties", "adapters": [{"nam": "zorp"}]}'
    await soon(user, "adapters.0.name: Field required")
    await soon(user, marker="ingredient zorp")


async def test_a_wrong_expression_has_the_apis_words(user: User) -> None:
    """An expression that does not parse shows the server's message with its caret, as text."""
    wrong = "linear(zorp, <script>alert(1)</script>\u202e)"
    await user.open(address(model=wrong))
    await soon(user, "Expected a name, name@3, name@alias or a digest")
    await soon(user, "linear(zorp, <script>alert(1)</script>")
    assert text_of(user, "expression") == wrong


async def test_a_mouse_alone_composes_saves_and_goes_to_compare(
    user: User, registry: Registry
) -> None:
    """Two clicks pick adapters, one saves under a suggested name, one leads to the comparison."""
    await user.open("/compose")
    await soon(user, marker="add zorp@1")
    user.find(marker="add zorp@1").click()
    user.find(marker="add blim@1").click()
    await until(lambda: text_of(user, "expression") == "linear(zorp@1, blim@1)")
    user.find("Save").click()
    await soon(user, "Saved as zorp-blim@1.")
    (link,) = user.find(kind=ui.link, content="Compare it with its ingredients").elements
    assert link.props["href"].startswith("/compare?model=zorp-blim%401&model2=zorp%401&model3=")
    assert "linear(zorp@1, blim@1)" == registry.catalogue.composition("zorp-blim").expression


async def test_weights_by_pattern_are_saved(user: User, registry: Registry) -> None:
    """A draft that only the object says is saved as it is."""
    adapters = [{"name": "zorp", "weights": {"*.mlp.*": 0.25}}, {"name": "blim"}]
    draft = json.dumps({"method": "cat", "adapters": adapters})
    await user.open(address(composition=draft))
    await soon(user, "in modules by pattern: ")
    user.find("Save").click()
    await soon(user, "Saved as zorp-blim@1.")
    assert '{"*.mlp.*": 0.25}' in registry.catalogue.composition("zorp-blim").expression


async def test_building_is_watched_and_ends_with_its_stages(user: User) -> None:
    """Building says what was built and how long each stage took, and the figures follow."""
    await user.open(address(model="cat(zorp, blim)"))
    await soon(user, "not yet")
    user.find("Build").click()
    await soon(user, "Built: ")
    await soon(user, "merge ")
    await user.should_not_see("not yet", retries=40)


async def test_publishing_asks_first(user: User, registry: Registry) -> None:
    """What was saved is published after a confirmation, as a version of an adapter."""
    await user.open(address(model="cat(zorp, blim)"))
    user.find("Save").click()
    await soon(user, "Saved as")
    with user:
        only(user, ui.input, "publish as").value = "both"
    user.find(kind=ui.button, content="Publish").click()
    await soon(user, "register the result as a version of the adapter both?")
    with user.scope(kind=ui.dialog):
        user.find("Publish").click()
    await soon(user, "Published as both@1.")
    assert 1 == registry.catalogue.adapter("both").number


async def test_buttons_follow_the_role(sign_in: SignIn, registry: Registry) -> None:
    """A key that may only chat sees no button to save; one that may only read, none to build."""
    roles: list[tuple[Role, list[str]]] = [("read", []), ("chat", ["Build"])]
    for role, seen in roles:
        _, key = registry.access.keys.create(role, role=role, all_namespaces=True)
        user = await sign_in(key)
        await user.open(address(model="cat(zorp, blim)"))
        await soon(user, "Shares of the norm")
        for button in ("Build", "Save"):
            if button in seen:
                await soon(user, kind=ui.button, content=button)
            else:
                await user.should_not_see(kind=ui.button, content=button)


async def test_a_preview_has_its_conflicts_and_its_curve(gateway: Gateway) -> None:
    """Sign conflicts are a matrix, the energy over rank is a curve, and each has its table."""
    told = {
        "ingredients": ["zorp@1", "blim@1"], "sign_conflicts": [[0.0, 0.31], [0.31, 0.0]],
        "rank": 2, "energy": [0.5, 0.75, 1.0],
    }  # fmt: skip
    transport = Answering(create_app(gateway), {"/registry/explain/preview": told})
    async with console_on(gateway, transport=transport) as browser:
        user = browser()
        await user.open(address(model="linear(zorp, blim; rank=2)"))
        await soon(user, "Share of entries whose signs conflict")
        await soon(user, "Rank 2 keeps 75.0% of the energy of the weighted sum.")
        assert {"zorp@1", "blim@1", "0.31"} <= cells(user)
