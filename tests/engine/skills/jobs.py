"""Starting a job on the console, and waiting for what it learns."""

import json
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from server.cli.demo_skills import Task

STEP_MS = 300_000  # a process starts, reads the base, and measures it first


def start_job(page: Page, console: str, task: Task) -> None:
    """Start a job with the task's questions as examples, from two other skills."""
    page.goto(f"{console}/jobs/new?members=mask,style")
    with tempfile.TemporaryDirectory() as folder:
        examples = Path(folder) / f"{task.name}.jsonl"
        examples.write_text("".join(_line(*question) for question in task.questions))
        page.locator("input[type=file]").first.set_input_files(examples)
        page.get_by_text("examples with").wait_for()
    page.get_by_role("button", name="Start the job").click()


def wait_for_step(page: Page) -> None:
    """Wait until the page of the job shows a step of a training."""
    page.get_by_text(": step ").wait_for(timeout=STEP_MS)


def _line(prompt: str, answer: str) -> str:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages}) + "\n"
