"""What the generators of the eight skills and their checkers promise.

Covered: right answers, wrong answers, splits, seeds, tasks of two skills, what is measured.
Not covered: training and its figures, which need the demo's base.
"""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from server.cli.demo_marks import ORDERS, rows_of
from tests.lab.skills import SKILLS
from tests.lab.skills.compose import MERGES, SCALES, SEED, Cell, compositions, expression
from tests.lab.skills.composed import COMPOSED
from tests.lab.skills.results import best_merge, newly_right, scaled, works, write_results
from tests.lab.skills.skill import Example, Skill, Split
from tests.lab.skills.train import PLANS
from tests.lab.skills.world import draw_date, surname

ALL = [*SKILLS.values(), *COMPOSED.values()]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@pytest.mark.parametrize("skill", ALL, ids=lambda skill: skill.name)
def test_the_expected_answer_is_right_and_the_prompt_is_not(skill: Skill) -> None:
    """A checker accepts the expected answer and refuses an echo of the text."""
    for example in skill.examples("validation", 60, seed=3):
        text = example.prompt.partition(": ")[2]
        assert skill.right(f"{example.answer}\n", example)
        assert text == example.answer or not skill.right(text, example)
        assert not skill.right("", example)


@pytest.mark.parametrize("skill", ALL, ids=lambda skill: skill.name)
def test_splits_have_no_content_in_common(skill: Skill) -> None:
    """No prompt of one split is one of another, nor is an answer that depends on its content."""
    drawn = {split: skill.examples(split, 200, seed=1) for split in SPLITS}

    for one, other in combinations(SPLITS, 2):
        prompts = [{example.prompt for example in drawn[split]} for split in (one, other)]
        assert not prompts[0] & prompts[1]


@pytest.mark.parametrize("name", ["spanish", "sql", "style", "iso"])
def test_answers_are_not_shared_between_splits(name: str) -> None:
    """What is asked in another way is still the same content: the answers differ too."""
    drawn = [{e.answer for e in SKILLS[name].examples(split, 200, seed=1)} for split in SPLITS]

    assert not any(one & other for one, other in combinations(drawn, 2))


def test_surnames_and_dates_belong_to_one_split() -> None:
    """A person or a day that tests show is in no training example of any skill."""
    rng = Random(0)
    surnames = [{surname(rng, split) for _ in range(300)} for split in SPLITS]
    days = [{draw_date(rng, split).iso for _ in range(300)} for split in SPLITS]

    for seen in (surnames, days):
        assert not any(one & other for one, other in combinations(seen, 2))


@pytest.mark.parametrize("skill", ALL, ids=lambda skill: skill.name)
def test_examples_depend_on_the_seed_alone(skill: Skill) -> None:
    """The same seed gives the same examples in the same order, another seed gives others."""
    first = skill.examples("test", 20, seed=1)
    skill.examples("test", 5, seed=9)

    assert first == skill.examples("test", 20, seed=1)
    assert first != skill.examples("test", 20, seed=2)
    assert len({example.prompt for example in first}) == len(first)


@pytest.mark.parametrize(
    ("name", "prompt", "expected", "accepted", "refused"),
    [
        ("extract", "", '{"a": 3}', '{ "a":3 }', '{"a": "3"}'),
        ("extract", "", '{"a": 3}', '{"a": 3}', '{"a": 3'),
        ("triage", "", "intent: return; urgency: low", "Intent: return; urgency: low", "return"),
        ("table", "", "| a |\n| --- |\n| 1 |", "|a|\n|-|\n|1|", "|a|\n|1|"),
        ("mask", "", "[NAME] left.", " [NAME] left.", "[NAME] left"),
        ("sql", "", "SELECT COUNT(*) FROM orders;", "select count(1) from orders", "SELECT 7;"),
    ],
)  # fmt: skip
def test_checkers_judge_what_an_answer_means(
    name: str, prompt: str, expected: str, accepted: str, refused: str
) -> None:
    """JSON is compared as values, a table as cells, SQL by its rows; prose to the letter."""
    example = Example(prompt, expected)

    assert SKILLS[name].right(accepted, example)
    assert not SKILLS[name].right(refused, example)


def test_a_model_cannot_change_or_hang_the_table() -> None:
    """An answer that writes, or joins the table with itself four times, is wrong and harmless."""
    assert rows_of("DELETE FROM orders") is None
    assert rows_of("PRAGMA query_only = OFF") is None
    assert rows_of("ATTACH 'elsewhere' AS other") is None
    assert rows_of("SELECT COUNT(*) FROM orders a, orders b, orders c, orders d") is None
    assert rows_of("SELECT COUNT(*) FROM orders") == [(ORDERS,)]


def test_a_task_of_two_skills_needs_both() -> None:
    """The parts of a task are skills, and its answer is neither part's answer to its text."""
    for task in COMPOSED.values():
        assert set(task.parts) <= set(SKILLS)
        assert len(task.parts) == 2


def test_every_skill_has_a_plan() -> None:
    """Each skill is trained by a plan, and each task's merges are measured with their parts."""
    assert set(PLANS) == set(SKILLS)
    assert 1.0 in SCALES
    assert expression("lego", ("a", "b"), {"rank": 8}) == "lego(a, b; rank=8)"
    assert expression("cat", ("a", "b"), {}) == "cat(a, b)"


def test_only_trained_parts_are_composed(tmp_path: Path) -> None:
    """A task is measured once both of its adapters are there."""
    for name in ("mask", "iso"):
        (tmp_path / name).mkdir()

    wanted = list(compositions(lambda name: tmp_path / name))

    assert {one.task.name for one in wanted} == {"mask+iso"}
    assert {"base", "mask", "iso", "cat(mask, iso)"} <= {one.model for one in wanted}


def test_results_say_what_the_cells_say(tmp_path: Path) -> None:
    """Cards, page and figures are written of the skills that were measured, and count what a merge
    answers right and neither part does."""
    task = COMPOSED["mask+iso"]
    examples = task.examples("test", 4, SEED)
    expected = [example.answer for example in examples]

    def cell(model: str, task: str, answers: list[str], right: int) -> Cell:
        scales = {"1.0": right / 4} if "(" in model else {}
        return Cell(model, task, [at < right for at in range(4)], 1.0, scales, answers, 1.0)

    merges = [expression(method, task.parts, options) for method, options in MERGES]
    composed = [
        cell("base", task.name, ["?"] * 4, 0),
        cell("mask", task.name, [*expected[:1], "?", "?", "?"], 1),
        cell("iso", task.name, ["?"] * 4, 0),
        cell(merges[0], task.name, [*expected[:3], "?"], 3),
        *(cell(merge, task.name, ["?"] * 4, 0) for merge in merges[1:]),
    ]
    singles = []
    for name in task.parts:
        answers = [example.answer for example in SKILLS[name].examples("test", 4, SEED)]
        singles += [cell("base", name, ["?"] * 4, 0), cell(name, name, answers, 4)]
        (tmp_path / "work" / name / "adapter").mkdir(parents=True)
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            (tmp_path / "work" / name / "adapter" / file).write_text(name)
        plan = {"rank": 8, "alpha": 16, "layers": [1], "steps": 2, "batch_size": 3, "seed": 1,
                "cpu_seconds": 90.0, "validation_loss": 0.5}  # fmt: skip
        (tmp_path / "work" / name / "figures.json").write_text(json.dumps(plan))
    out = tmp_path / "out"

    write_results(tmp_path / "work", out, singles, composed)

    cells = {one.key: one for one in composed}
    assert best_merge(task, cells) == composed[3]
    assert scaled(replace(composed[3], scale=0.7)) == "cat(mask, iso; scale=0.7)"
    assert scaled(replace(composed[4], scale=0.5)) == "linear(mask, iso; rank=8, scale=0.5)"
    questions = json.loads((out / "questions.json").read_text())
    assert [questions[name]["model"] for name in ("mask", task.name)] == ["mask", merges[0]]
    assert newly_right(composed[3], composed[:3]) == [False, True, True, False]
    assert [asked["answer"] for asked in questions[task.name]["questions"]] == expected[1:3]
    assert questions[task.name]["marks"] == {"base": 0, "mask": 1, "iso": 0, merges[0]: 3}
    assert works(task, cells)
    assert not works(
        task, cells | {merge.key: replace(merge, scales={"1.0": 0.2}) for merge in composed[3:]}
    )
    assert {path.name for path in out.iterdir()} == {
        "README.md", "accuracy.json", "questions.json", "mask", "iso",
    }  # fmt: skip
    assert (out / "mask" / "adapter_model.safetensors").read_text() == "mask"
    assert "finds\n4 answered right" in (out / "mask" / "README.md").read_text()
    row = f"| mask+iso: mask, and ISO forms | 0 | 1 | 0 | 3 (1.0) |{' 0 (1.0) |' * 4} 2 |"
    assert row in (out / "README.md").read_text()
    assert len(json.loads((out / "accuracy.json").read_text())["cells"]) == len(cells) + len(
        singles
    )
