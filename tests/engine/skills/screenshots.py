"""The pictures of the console in deploy/screenshots: `make screenshots`.

They show the real demo: its base and skills on vLLM, a composition made by a newcomer's walk, a
job while it learns.
"""

import re
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from server.cli.demo_console import console_beside
from server.cli.demo_skills import Task, read_tasks
from tests.engine.skills.jobs import start_job, wait_for_step
from tests.engine.skills.served import serving_skills
from tests.engine.skills.walk import PARTS, SAVED, walk
from tests.server.console.browser import chromium

FOLDER = Path(__file__).parents[3] / "deploy" / "screenshots"
_WIDTH, _HEIGHT, _NARROW = 1280, 1100, 390
_COLOURS = 96  # of a picture: a third of the bytes, and charts keep theirs
_DRAWN_MS = 1500  # until charts stand still
_ANSWERS_MS = 120_000
_CURVE_STEPS = 12  # of a training: its losses are a curve by then


def main() -> None:
    """Take every picture."""
    FOLDER.mkdir(exist_ok=True)
    tasks = {task.name: task for task in read_tasks()}
    with (
        tempfile.TemporaryDirectory() as home,
        serving_skills(Path(home) / "home") as weft,
        console_beside(weft.url) as address,
    ):
        console = address().rpartition(" ")[2]
        with chromium(width=_WIDTH, height=_HEIGHT) as browser:
            take_pictures(browser.new_page(), console, tasks)
        with chromium(width=_NARROW, height=_HEIGHT, dark=True) as browser:
            page = browser.new_page()
            page.goto(f"{console}/compose?model=tsv(mask, iso)")
            page.get_by_text("Cosines between the updates").first.wait_for()
            save(page, "narrow")


def take_pictures(page: Page, console: str, tasks: dict[str, Task]) -> None:
    """Walk, and take a picture of each page on the way; then of those that the walk leaves out."""
    on_the_way: dict[str, Callable[[], None]] = {
        f"tick {PARTS[-1]}": lambda: save(page, "adapters"),
        f"click “Save”: it is {SAVED}": lambda: save(page, "compose"),
    }
    for step in walk(page, console, tasks[PARTS[0]].examples[0]):
        on_the_way.get(step.did, lambda: None)()
    composed = tasks["+".join(PARTS)]
    page.get_by_label("Prompt", exact=True).fill(composed.questions[0][0])
    page.get_by_role("button", name="Ask", exact=True).click()
    answered = page.get_by_text(re.compile("^Total:"))
    expect(answered).to_have_count(0)
    expect(answered).to_have_count(1 + len(PARTS), timeout=_ANSWERS_MS)
    save(page, "compare")
    for path, name in (
        ("/adapters/mask", "adapter"),
        ("/engine", "engine"),
        ("/registry", "registry"),
    ):
        page.goto(console + path)
        save(page, name)
    start_job(page, console, (*tasks["iso"].questions, *tasks["iso+style"].questions))
    wait_for_step(page, at_least=_CURVE_STEPS)
    save(page, "job")


def save(page: Page, name: str) -> None:
    """Write what the page shows as a picture of few colours."""
    page.wait_for_timeout(_DRAWN_MS)
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
