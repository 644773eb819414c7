"""Debian's Chromium, driven by Playwright, and what axe-core says of a page."""

from collections.abc import Iterator
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
SERIOUS = ("serious", "critical")


@contextmanager
def chromium(
    *, width: int = 1280, height: int = 900, dark: bool = False
) -> Iterator[BrowserContext]:
    """Run Chromium with a fresh profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        yield context
        browser.close()


def serious_findings(page: Page) -> list[str]:
    """Return what axe-core finds serious or critical on a page: rule, element, why."""
    return [
        f"{found['id']}: {node['html']}: {node['failureSummary']}"
        for found in Axe().run(page).response["violations"]
        if found["impact"] in SERIOUS
        for node in found["nodes"]
    ]
