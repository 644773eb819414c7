"""The split: no question measures what has learned from it, and every question measures once."""

import pytest

from merge.adaptive.split import (
    Round,
    cross_fit,
    measured_on,
    numbered,
    questions_of,
    spare,
)

# Each third question is asked twice more.
QUESTIONS = [f"q{at}" for at in range(60)] + [f"q{at}" for at in range(0, 60, 3)] * 2


def sides(parts: Round, questions: list[str]) -> list[set[str]]:
    """Return the questions of each part."""
    return [{questions[at] for at in part} for part in parts]


@pytest.mark.parametrize("seed", range(5))
def test_a_question_is_on_one_side(seed: int) -> None:
    """In every round, examples of one question only train, only choose or only measure."""
    rounds = [*cross_fit(QUESTIONS, 5, seed=seed), spare(QUESTIONS, seed=seed)]
    for parts in rounds:
        train, choice, tests = sides(parts, QUESTIONS)
        assert len(train | choice | tests) == len(train) + len(choice) + len(tests) == 60
        assert sorted([*parts.train, *parts.choice, *parts.tests]) == [*range(len(QUESTIONS))]


def test_every_example_measures_once() -> None:
    """The rounds' tests are all examples, each in one round, a fifth of the questions in each."""
    rounds = cross_fit(QUESTIONS, 5, seed=1)
    tested = [at for parts in rounds for at in parts.tests]

    assert sorted(tested) == [*range(len(QUESTIONS))]
    assert [12] * 5 == [len(sides(parts, QUESTIONS)[2]) for parts in rounds]
    assert [(38, 10)] * 5 == [tuple(map(len, sides(parts, QUESTIONS)[:2])) for parts in rounds]


@pytest.mark.parametrize(("asked", "tests"), [(100, 20), (50, 20), (49, 10), (12, 2), (3, 1)])
def test_twenty_are_spared_of_enough(asked: int, tests: int) -> None:
    """Twenty questions of fifty or more are spared, and a fifth of fewer."""
    parts = spare([str(at) for at in range(asked)], seed=2)

    assert tests == len(parts.tests)
    assert parts.train
    assert parts.choice


def test_seeds_and_order() -> None:
    """A seed gives the same rounds again, another seed others; few questions make few folds."""
    assert cross_fit(QUESTIONS, 5, seed=1) == cross_fit(QUESTIONS, 5, seed=1)
    assert cross_fit(QUESTIONS, 5, seed=1) != cross_fit(QUESTIONS, 5, seed=2)
    assert 3 == len(cross_fit(["a", "b", "c"], 5, seed=1))
    assert all(parts.train and parts.choice for parts in cross_fit(["a", "b", "c"], 5, seed=1))


def test_a_file_of_its_own_measures() -> None:
    """Validation examples come after the others, and only measure."""
    parts = measured_on(["a", "b", "c", "d", "e"], ["x", "y"], seed=1)

    assert (5, 6) == parts.tests
    assert (0, 1, 2, 3, 4) == parts.shown
    assert 1 == len(parts.choice)


def test_a_question_is_its_words() -> None:
    """Case and white space make no other question; another answer does not, another turn does."""

    def chat(*texts: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text} for text in texts]

    asked = questions_of([
        chat("What is  two?", "2"), chat("what is two? ", "two"), chat("hi", "What is two?", "2"),
    ])  # fmt: skip

    assert asked[0] == asked[1] != asked[2]
    assert (0, 0, 1, 0) == numbered([*asked, asked[0]])
