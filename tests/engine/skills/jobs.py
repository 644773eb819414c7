"""Starting a job on the console, and waiting for what it learns."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from playwright.sync_api import Page

STEP_MS = 300_000  # a process starts, reads the base, and measures it first


def start_job(page: Page, console: str, examples: Iterable[tuple[str, str]]) -> None:
    """Start a job on prompts and answers, over two skills."""
    page.goto(f"{console}/jobs/new?members=mask,style")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "examples.jsonl"
        file.write_text("".join(_line(*example) for example in examples))
        page.locator("input[type=file]").first.set_input_files(file)
        page.get_by_text("examples with").wait_for()
    page.get_by_role("button", name="Start the job").click()


def wait_for_step(page: Page, at_least: int = 1) -> None:
    """Wait until the page of the job shows this step of a training, or a later one."""
    page.wait_for_function(
        "least => Number(/: step ([0-9]+) of/.exec(document.body.innerText)?.[1]) >= least",
        arg=at_least, timeout=STEP_MS,
    )  # fmt: skip


def _line(prompt: str, answer: str) -> str:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}) + "\n"
