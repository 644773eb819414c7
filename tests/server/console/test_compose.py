"""The page Compose on a real gateway: drafting, explaining, building, saving, publishing."""

import json
from urllib.parse import urlencode

from nicegui import ui
from nicegui.testing import User

from registry.service import Registry
from tests.server.console.conftest import SignIn


def address(**parameters: str) -> str:
    """Return the page's address with parameters."""
    return f"/compose?{urlencode(parameters)}"


def only(user: User, kind: type[ui.element], marker: str) -> ui.element:
    """Return the one element of this kind and marker."""
    (element,) = user.find(kind=kind, marker=marker).elements
    return element


async def test_an_expression_in_the_address_becomes_the_draft(user: User) -> None:
    """The page opens with an expression's ingredients, its JSON, and its explanation."""
    await user.open(address(model="linear(zorp, 0.5*blim@prod; rank=8)"))
    await user.should_see(marker="ingredient blim@prod", retries=40)
    await user.should_see("Shares of the norm", retries=40)
    await user.should_see("Cosines between the updates")
    (field,) = user.find(kind=ui.textarea, marker="json").elements
    assert {
        "method": "linear", "options": {"rank": 8},
        "adapters": [{"name": "zorp"}, {"name": "blim@prod", "weight": 0.5}],
    } == json.loads(str(field.value))  # fmt: skip
