"""A newcomer's walk through the console, by mouse alone.

It goes from the list of adapters to a saved composition, and to a comparison of the composition
with its ingredients.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from playwright.sync_api import Locator, Page, expect

PARTS, METHOD = ("mask", "iso"), "tsv"
SAVED = f"{'-'.join(PARTS)}@1"
_MERGE_MS, _ANSWERS_MS = 60_000, 120_000  # what a busy machine may take


@dataclass(frozen=True, slots=True)
class Step:
    """What was done, and the seconds until the page showed what it leads to."""

    did: str
    seconds: float


_Action: TypeAlias = Callable[[Page], None]


def walk(page: Page, console: str, prompt: str) -> Iterator[Step]:
    """Take one step after another.

    Args:
        page: a page of a browser.
        console: the address of the console.
        prompt: one of the prompts that the console offers for the first of `PARTS`.
    """
    for did, act in _steps(console, prompt):
        began = time.perf_counter()
        act(page)
        yield Step(did, time.perf_counter() - began)


def _steps(console: str, prompt: str) -> Sequence[tuple[str, _Action]]:
    expression = f"{METHOD}({', '.join(PARTS)})"

    def first_page(page: Page) -> None:
        page.goto(console)
        _pick_box(page, PARTS[0]).wait_for()

    def compose(page: Page) -> None:
        page.get_by_role("link", name="Compose them").click()
        page.get_by_text("Cosines between the updates").first.wait_for()

    def choose_method(page: Page) -> None:
        page.get_by_role("combobox", name="Method").click()
        page.get_by_role("option", name=re.compile(f"^{METHOD}:")).click()
        expect(page.get_by_label("Expression")).to_have_value(expression)
        page.get_by_text("of the energy of the weighted sum").wait_for()

    def build(page: Page) -> None:
        page.get_by_role("button", name="Build").click()
        page.get_by_text(re.compile("^Built:")).wait_for(timeout=_MERGE_MS)

    def save(page: Page) -> None:
        page.get_by_role("button", name="Save").click()
        page.get_by_text(f"Saved as {SAVED}.").wait_for()

    def compare(page: Page) -> None:
        page.get_by_role("link", name="Compare it with its ingredients").click()
        page.get_by_role("heading", name="Compare", exact=True).wait_for()
        _offered(page, prompt).wait_for()

    def choose_prompt(page: Page) -> None:
        _offered(page, prompt).click()
        expect(page.get_by_label("Prompt", exact=True)).to_have_value(prompt)

    def ask(page: Page) -> None:
        page.get_by_role("button", name="Ask", exact=True).click()
        answers = page.get_by_text(re.compile("^Total:"))
        expect(answers).to_have_count(1 + len(PARTS), timeout=_ANSWERS_MS)

    return (
        ("open the console: the adapters and their map", first_page),
        *((f"tick {name}", _pick(name)) for name in PARTS),
        ("click “Compose them”: cosines and norms of the two", compose),
        (f"choose the method {METHOD}: what rank keeps how much", choose_method),
        ("click “Build”: merged and loaded into the engine", build),
        (f"click “Save”: it is {SAVED}", save),
        ("click “Compare it with its ingredients”", compare),
        ("click one of the prompts that are offered", choose_prompt),
        ("click “Ask”: three answers side by side", ask),
    )


def _pick_box(page: Page, name: str) -> Locator:
    return page.get_by_role("checkbox", name=f"Pick {name}", exact=True)


def _pick(name: str) -> _Action:
    def pick(page: Page) -> None:
        _pick_box(page, name).click()
        page.get_by_text(re.compile(rf"picked:.*\b{name}\b")).wait_for()

    return pick


def _offered(page: Page, prompt: str) -> Locator:
    """Return the button of a prompt, which shows its beginning."""
    return page.get_by_role("button", name=prompt[:40])
