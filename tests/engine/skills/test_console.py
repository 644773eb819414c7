"""The console in Debian's Chromium over the real base, its skills and vLLM.

Covered: what needs real answers, merges and jobs. Not covered: contrast, labels and widths of every
page (`tests/server/console/test_chromium.py`), what pages say (the other tests there).
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from server.cli.demo_console import console_beside
from server.cli.demo_skills import Task, read_tasks
from tests.engine.gateway import Weft
from tests.engine.skills.jobs import STEP_MS, start_job, wait_for_step
from tests.engine.skills.walk import PARTS, SAVED, walk
from tests.server.console.browser import chromium

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STEPS = Path("build/console-walk.txt")
COUNT_KEYS = "addEventListener('keydown', () => sessionStorage.setItem('keys', 'pressed'), true)"


@pytest.fixture(scope="module")
def console(weft: Weft) -> Iterator[str]:
    """The console beside the demo."""
    with console_beside(weft.url) as address:
        yield address().rpartition(" ")[2]


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a fresh browser."""
    with chromium() as browser:
        yield browser.new_page()


def skill(name: str) -> Task:
    """Return a skill of the demo."""
    return next(task for task in read_tasks() if task.name == name)


def unfold(page: Page, title: str) -> None:
    """Show the table below a chart."""
    page.get_by_role("figure").filter(has_text=title).get_by_role("button", name="Table").click()


def test_a_newcomer_saves_a_composition_and_compares_it(
    console: str, page: Page, weft: Weft
) -> None:
    """By mouse alone: two adapters are ticked, composed, built, saved and compared.

    The steps and their times are left in build/console-walk.txt.
    """
    page.add_init_script(COUNT_KEYS)
    steps = list(walk(page, console, skill(PARTS[0]).examples[0]))
    lines = [f"{step.seconds:6.2f} s  {step.did}" for step in steps]
    lines.append(f"{sum(step.seconds for step in steps):6.2f} s  in all")
    STEPS.parent.mkdir(exist_ok=True)
    STEPS.write_text("\n".join(lines) + "\n")
    assert page.evaluate("sessionStorage.getItem('keys')") is None
    answers = page.locator(".weft-answer")
    assert [SAVED, *PARTS] == [
        name.partition("@")[0] if name != SAVED else name
        for name in answers.locator("h3").all_inner_texts()
    ]
    assert all(text.strip() for text in answers.locator("pre").all_inner_texts())


def test_what_was_asked_is_on_the_page_of_the_engine(console: str, page: Page, weft: Weft) -> None:
    """What the engine has loaded, and what was asked with its times, are on the page Engine."""
    messages = [{"role": "user", "content": "Mask the personal data: We owe Barbara Mann £7."}]
    body = {"model": "cat(mask, style)", "messages": messages, "max_tokens": 8}
    answer = httpx.post(f"{weft.url}/v1/chat/completions", json=body, timeout=120)
    assert 200 == answer.status_code, answer.text
    page.goto(f"{console}/engine")
    unfold(page, "The newest requests by timing")
    for table in ("Loaded adapters", "The newest requests by timing"):
        rows = page.get_by_role("table", name=table).get_by_role("row")
        expect(rows.filter(has_text=answer.headers["x-weft-artifact"]).first).to_be_visible()


def test_adapters_are_found_by_what_they_do(console: str, page: Page) -> None:
    """A search as it is typed leaves the adapter whose examples it is like on top."""
    page.goto(console)
    page.get_by_label("Search").fill("numbers in Spanish words")
    first = page.get_by_role("table", name="Adapters").get_by_role("row").nth(1)
    expect(first).to_contain_text("spanish")
    first.get_by_role("link", name="spanish", exact=True).click()
    page.get_by_text("How do you say 291 in Spanish?").first.wait_for()


def test_a_job_is_watched_while_it_learns(console: str, page: Page) -> None:
    """A job is started by a file of examples, its steps and losses appear, and it is cancelled."""
    start_job(page, console, (*skill("iso").questions, *skill("iso+style").questions))
    wait_for_step(page)
    unfold(page, "Losses while training")
    losses = page.get_by_role("table", name="Losses while training")
    expect(losses.get_by_role("row")).not_to_have_count(1)
    page.get_by_role("button", name="Cancel the job").click()
    page.get_by_role("button", name="End the job").click()
    page.get_by_text("cancelled").first.wait_for(timeout=STEP_MS)
