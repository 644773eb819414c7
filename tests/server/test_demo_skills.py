"""The demo of skills: tasks read, adapters registered with examples, answers marked side by side.

Covered: everything but the engine, whose answers are given. Not covered: the base, the server.
"""

import json
import shutil
from pathlib import Path

import pytest

from server.base_model import ensure_base
from server.cli.demo import BASE_NAME as TINY_BASE
from server.cli.demo_base import BASE_NAME
from server.cli.demo_skills import AUTO_PROMPTS, Reply, present_skills, read_tasks, register_skills
from server.home import open_registry
from tests.server.conftest import DEMO, demo_settings


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    """Two skills, one task that needs both, and adapters of the tests' base in their names."""

    def task(parts: list[str], model: str, compared: str) -> dict[str, object]:
        return {
            "description": "a task",
            "parts": parts,
            "model": model,
            "compared": compared,
            "tests": 50,
            "marks": {"base": 3, **dict.fromkeys((*parts, model), 41)},
            "examples": [f"{model} 9"] if len(parts) == 1 else [],
            "questions": [{"prompt": f"{model} {i}", "answer": f"[{i}]"} for i in range(8)],
        }

    folder = tmp_path / "skills"
    for name, adapter in (("mask", "zorp"), ("iso", "blim")):
        shutil.copytree(DEMO / "adapters" / adapter, folder / name)
        config = folder / name / "adapter_config.json"
        config.write_text(config.read_text().replace(TINY_BASE, BASE_NAME))
    (folder / "questions.json").write_text(
        json.dumps(
            {
                "mask": task(["mask"], "mask", "text"),
                "iso": task(["iso"], "iso", "json"),
                "mask+iso": task(["mask", "iso"], "cat(mask, iso; scale=0.7)", "json"),
            }
        )
    )
    return folder


def test_adapters_are_registered_with_their_examples(assets: Path, tmp_path: Path) -> None:
    """Each skill's adapter is `name@prod`, and search knows prompts such as it is asked."""
    settings = demo_settings(tmp_path / "home", served_base=BASE_NAME)
    registry, _ = open_registry(settings)
    ensure_base(registry, settings)

    assert register_skills(registry, read_tasks(assets), assets) == 2
    assert registry.search.descriptions.examples("mask") == ("mask 9",)


async def test_answers_stand_side_by_side(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Base, parts and merge get the same prompt; each answer is marked as its task is judged."""
    asked: list[tuple[str, str]] = []

    async def ask(model: str, prompt: str, _: int) -> Reply:
        asked.append((model, prompt))
        number = prompt.rpartition(" ")[2]
        return Reply(f"[ {number} ]" if "cat" in model else "?", "mask@1", {"merge": 4.0}, 12.5)

    await present_skills(ask, read_tasks(assets))

    printed = capsys.readouterr().out
    prompt = "cat(mask, iso; scale=0.7) 0"
    assert [model for model, asked_prompt in asked if asked_prompt == prompt][:4] == [
        BASE_NAME, "mask", "iso", "cat(mask, iso; scale=0.7)",
    ]  # fmt: skip
    assert sum(model == "auto(; k=1)" for model, _ in asked) == AUTO_PROMPTS
    lines = [line for line in printed.splitlines() if "[ 0 ]" in line]
    assert [[cell.strip() for cell in line.split("│")[2:4]] for line in lines] == [["41", "yes"]]
    assert "right of 50" in printed
    assert "12.5" in printed
    assert "4.0" in printed
