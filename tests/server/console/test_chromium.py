"""Every page in Debian's Chromium, signed in by the form, over a gateway with the fake engine.

Covered: what a browser alone can tell: the sign-in form, overflow, contrast and labels, what a page
asks of other hosts. Not covered: what pages say (the other tests here), a real engine.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page

from server.cli.demo_console import console_beside
from tests.server.console.browser import chromium, serious_findings

KEY = "secret"
SHOWN = {  # what a page shows once it has its answers
    "/": "blim",
    "/adapters/zorp": "Versions",
    "/compose?model=cat(zorp, blim)": "Cosines between",
    "/compare?model=zorp": "Models",
    "/jobs": "No job has learned",
    "/jobs/new": "Choose a JSONL file",
    "/engine": "Recent requests",
    "/registry": "blim",
    "/registry/artifacts": "Artifacts",
    "/registry/usage": "Usage",
    "/registry/keys": "Keys",
    "/registry/audit": "Changes",
    "/registry/garbage": "There is no garbage",
}

pytestmark = pytest.mark.slow


@pytest.fixture
def console(url: str) -> Iterator[str]:
    """A console of that server, in a process of its own."""
    with console_beside(url) as address:
        yield address().rpartition(" ")[2]


def signed_in(browser: BrowserContext, console: str) -> Page:
    """A page of the console, after a key was typed into the form."""
    page = browser.new_page()
    page.goto(console)
    page.locator("input[type=password]").fill(KEY)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Adapters", exact=True).wait_for()
    return page


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_page_is_whole(console: str, width: int, dark: bool) -> None:
    """Pages fit wide and narrow screens, light and dark, ask no other host and pass axe-core."""
    with chromium(width=width, dark=dark) as browser:
        page = signed_in(browser, console)
        asked, errors = list[str](), list[str]()
        page.on("request", lambda request: asked.append(urlsplit(request.url).hostname or ""))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for path, text in SHOWN.items():
            page.goto(console + path)
            page.get_by_text(text).filter(visible=True).first.wait_for()
            assert not serious_findings(page), path
            assert width >= page.evaluate("document.documentElement.scrollWidth"), path
            assert KEY not in page.content()
        assert not errors
        assert {"127.0.0.1", ""} >= set(asked)


def test_a_wrong_key_is_told_and_kept_nowhere(console: str) -> None:
    """A key that the server does not know leads back to the form, which does not repeat it."""
    with chromium() as browser:
        page = browser.new_page()
        page.goto(console)
        page.locator("input[type=password]").fill("wrong-key")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").wait_for()
        assert "wrong-key" not in page.content() + page.url


def test_the_lasso_is_drawn_by_a_mouse(console: str) -> None:
    """A line around the whole map, drawn near its border, picks all adapters on it."""
    with chromium() as browser:
        page = signed_in(browser, console)
        page.get_by_role("button", name="Lasso").click()
        page.get_by_text("Draw a line around adapters on the map.").wait_for()
        box = page.locator("canvas").bounding_box()
        assert box is not None
        left, top = box["x"] + 4, box["y"] + 40  # the legend is above
        right, bottom = box["x"] + box["width"] - 4, box["y"] + box["height"] - 4
        page.mouse.move(left, top)
        page.mouse.down()
        for x, y in ((right, top), (right, bottom), (left, bottom)):
            page.mouse.move(x, y, steps=10)
        page.mouse.up()
        page.get_by_text("8 picked").wait_for()
