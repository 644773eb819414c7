"""What the generators of the eight skills and their checkers promise.

Covered: right answers, wrong answers, splits, seeds, tasks of two skills, what is measured.
Not covered: training and its figures, which need the demo's base.
"""

from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from tests.lab.skills import SKILLS
from tests.lab.skills.compose import SCALES, compositions, expression
from tests.lab.skills.composed import COMPOSED
from tests.lab.skills.skill import Example, Skill, Split
from tests.lab.skills.sql import ROWS, rows_of
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
    assert rows_of("SELECT COUNT(*) FROM orders") == [(ROWS,)]


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
