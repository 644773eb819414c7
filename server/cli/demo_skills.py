"""The demo's skills: what base, adapters and merges answer to the same prompts, side by side.

Covered: registering the adapters, asking, marking, tables. Not covered: the base (`demo_base.py`),
how answers are judged (`demo_marks.py`), starting and stopping the server.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.service import Registry
from registry.sources.folder import find_adapters
from server.cli.console import print_table
from server.cli.demo_base import BASE_NAME
from server.cli.demo_marks import MARKS
from server.settings import Settings

ASSETS = Path(__file__).parents[2] / "deploy" / "demo" / "skills"
PROMPTS_EACH = 2  # of a task of two skills
AUTO = "auto(; k=1)"
AUTO_PROMPTS = 10
STAGES = ("resolve", "merge", "load", "engine")


@dataclass(frozen=True, slots=True)
class Task:
    """Prompts with right answers, and the model that is to answer them."""

    name: str
    description: str
    parts: tuple[str, ...]
    model: str
    compared: str
    examples: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]  # prompt and right answer

    def right(self, answer: str, expected: str) -> bool:
        """Whether an answer is right."""
        return MARKS[self.compared](answer, expected)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, what `auto()` chose, and how long it took."""

    text: str
    chosen: str
    stages: Mapping[str, float]  # milliseconds, measured by the server
    first_token: float  # milliseconds, measured by the client


Ask = Callable[[str, str], Awaitable[Reply]]  # model, prompt


def have_skills(assets: Path = ASSETS) -> bool:
    """Whether the skills are there: they come with a checkout of weft."""
    return (assets / "questions.json").is_file()


def skills_settings(home: Path, port: int, base: Path) -> Settings:
    """Return settings that serve the base in float32: in bfloat16 near ties turn over. A merge may
    have the rank of all eight adapters together."""
    return Settings(
        home=home, port=port, model=str(base), served_base=BASE_NAME, dtype="float32",
        max_loras=4, max_cpu_loras=16, max_lora_rank=64, max_model_len=1024,
    )  # fmt: skip


def read_tasks(assets: Path = ASSETS) -> list[Task]:
    """Return the skills and the tasks of two skills."""
    return [_task(name, item) for name, item in json.loads(_text(assets)).items()]


def register_skills(registry: Registry, tasks: Sequence[Task], assets: Path = ASSETS) -> int:
    """Register every skill's adapter as `name@prod`, with examples for search; return how many."""
    known = {task.name: task.examples for task in tasks if len(task.parts) == 1}
    folders = [folder for folder in find_adapters(assets) if folder.name in known]
    for folder in folders:
        registry.adapters.register(
            folder, name=folder.name, base=BASE_NAME, alias="prod", source="demo", actor="demo"
        )
        registry.search.descriptions.set_examples(folder.name, known[folder.name], actor="demo")
    return len(folders)


async def present_skills(ask: Ask, tasks: Sequence[Task]) -> None:
    """Ask and print: each skill once, tasks of two skills side by side, `auto()`, the times."""
    skills = [task for task in tasks if len(task.parts) == 1]
    composed = [task for task in tasks if len(task.parts) > 1]
    columns = ("model", "right", "answer", "first token ms")
    for task in skills:
        prompt, expected = task.questions[0]
        rows = [row async for row in _answers(ask, task, (BASE_NAME, task.model), prompt, expected)]
        print_table(f"{task.name}: {task.description}\n{prompt}", columns, rows)
    for task in composed:
        for prompt, expected in task.questions[:PROMPTS_EACH]:
            models = (BASE_NAME, *task.parts, task.model)
            rows = [row async for row in _answers(ask, task, models, prompt, expected)]
            print_table(f"{task.name}: {task.description}\n{prompt}", columns, rows)
    await _present_auto(ask, skills)
    await _present_times(ask, composed)


async def _answers(
    ask: Ask, task: Task, models: Sequence[str], prompt: str, expected: str
) -> AsyncIterator[tuple[str, str, str, str]]:
    for model in models:
        reply = await ask(model, prompt)
        mark = "yes" if task.right(reply.text, expected) else "no"
        shown = "base" if model == BASE_NAME else model
        yield shown, mark, reply.text, f"{reply.first_token:.0f}"


async def _present_auto(ask: Ask, skills: Sequence[Task]) -> None:
    rows = []
    for at in range(AUTO_PROMPTS):
        task = skills[at % len(skills)]
        prompt, expected = task.questions[1 + at // len(skills)]
        reply = await ask(AUTO, prompt)
        mark = "yes" if task.right(reply.text, expected) else "no"
        rows.append((prompt, reply.chosen, mark, reply.text))
    print_table(AUTO, ("prompt", "chosen", "right", "answer"), rows)


async def _present_times(ask: Ask, composed: Sequence[Task]) -> None:
    """Print the milliseconds of a merge at another scale, which is new, and of the same again."""
    rows = []
    for task in composed[:1]:
        model = f"cat({', '.join(task.parts)}; scale=0.95)"
        for times in ("first", "second"):
            reply = await ask(model, task.questions[0][0])
            stages = (f"{reply.stages.get(stage, 0):.1f}" for stage in STAGES)
            rows.append((model, times, *stages, f"{reply.first_token:.1f}"))
    print_table("times in ms", ("model", "asked", *STAGES, "first token"), rows)


def _text(assets: Path) -> str:
    return (assets / "questions.json").read_text()


def _task(name: str, item: Mapping[str, Any]) -> Task:
    questions = tuple((question["prompt"], question["answer"]) for question in item["questions"])
    return Task(
        name, item["description"], tuple(item["parts"]), item["model"], item["compared"],
        tuple(item["examples"]), questions,
    )  # fmt: skip
