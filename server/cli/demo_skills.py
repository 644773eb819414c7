"""The demo's skills: what base, adapters and merges answer to the same prompts, side by side.

Covered: registering the adapters, asking, marking, tables. Not covered: the base (`demo_base.py`),
how answers are judged (`demo_marks.py`), starting and stopping the server.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
PROMPTS_EACH = 1  # of a task of two skills
AUTO = "auto(; k=1)"
AUTO_PROMPTS = 10
STAGES = ("resolve", "merge", "load", "engine")
LONGEST = 160  # tokens of an answer: a table of three rows takes 120
LONGEST_OF_BASE = 40  # it knows no end, and what it is about is seen by then
AT_ONCE = 16  # answers that share the steps of the engine


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
    tests: int  # held-out prompts that were asked when the adapters were trained
    marks: Mapping[str, int]  # how many of them each model answered right

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


Ask = Callable[[str, str, int], Awaitable[Reply]]  # model, prompt, most tokens
Row = tuple[str, ...]


def have_skills(assets: Path = ASSETS) -> bool:
    """Whether the skills are there: they come with a checkout of weft."""
    return (assets / "questions.json").is_file()


def skills_settings(home: Path, port: int, base: Path) -> Settings:
    """Return settings that serve the base in float32: in bfloat16 near ties turn over. A merge may
    have the rank of four adapters together."""
    return Settings(
        home=home, port=port, model=str(base), served_base=BASE_NAME, dtype="float32",
        max_loras=8, max_cpu_loras=16, max_lora_rank=32, max_model_len=1024,
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
    asked = [(task, task.questions[0]) for task in skills]
    asked += [(task, question) for task in composed for question in task.questions[:PROMPTS_EACH]]
    few = _few_at_once(ask)
    answered = [asyncio.ensure_future(_side_by_side(few, *one)) for one in asked]
    chosen = asyncio.ensure_future(_ask_auto(few, skills))
    for (task, (prompt, _)), rows in zip(asked, answered, strict=True):
        columns = ("model", f"right of {task.tests}", "right here", "answer")
        print_table(f"{task.name}: {task.description}\n{prompt}", columns, await rows)
    print_table(AUTO, ("prompt", "chosen", "right", "answer"), await chosen)
    await _present_times(ask, composed)


def _few_at_once(ask: Ask) -> Ask:
    slots = asyncio.Semaphore(AT_ONCE)

    async def wait_and_ask(model: str, prompt: str, longest: int) -> Reply:
        async with slots:
            return await ask(model, prompt, longest)

    return wait_and_ask


async def _side_by_side(ask: Ask, task: Task, question: tuple[str, str]) -> list[Row]:
    """Return the answers of the base, the parts and the task's model to one prompt."""
    prompt, expected = question
    models = dict.fromkeys((BASE_NAME, *task.parts, task.model))  # a skill is its own part

    async def row(model: str) -> Row:
        shown, longest = ("base", LONGEST_OF_BASE) if model == BASE_NAME else (model, LONGEST)
        reply = await ask(model, prompt, longest)
        return shown, str(task.marks[shown]), _mark(task, reply, expected), reply.text

    return await asyncio.gather(*map(row, models))


async def _ask_auto(ask: Ask, skills: Sequence[Task]) -> list[Row]:
    """Return which skill `auto()` chooses for ten prompts, and its answers."""

    async def row(at: int) -> Row:
        task = skills[at % len(skills)]
        prompt, expected = task.questions[1 + at // len(skills)]
        reply = await ask(AUTO, prompt, LONGEST)
        return prompt, reply.chosen, _mark(task, reply, expected), reply.text

    return await asyncio.gather(*map(row, range(AUTO_PROMPTS)))


async def _present_times(ask: Ask, composed: Sequence[Task]) -> None:
    """Print the milliseconds of a merge at another scale, which is new, and of the same again."""
    rows = []
    for task in composed[:1]:
        model = f"cat({', '.join(task.parts)}; scale=0.95)"
        for times in ("first", "second"):
            reply = await ask(model, task.questions[0][0], LONGEST)
            stages = (f"{reply.stages.get(stage, 0):.1f}" for stage in STAGES)
            rows.append((model, times, *stages, f"{reply.first_token:.1f}"))
    print_table("times in ms", ("model", "asked", *STAGES, "first token"), rows)


def _mark(task: Task, reply: Reply, expected: str) -> str:
    return "yes" if task.right(reply.text, expected) else "no"


def _text(assets: Path) -> str:
    return (assets / "questions.json").read_text()


def _task(name: str, item: Mapping[str, Any]) -> Task:
    questions = tuple((question["prompt"], question["answer"]) for question in item["questions"])
    return Task(
        name, item["description"], tuple(item["parts"]), item["model"], item["compared"],
        tuple(item["examples"]), questions, item["tests"], item["marks"],
    )  # fmt: skip
