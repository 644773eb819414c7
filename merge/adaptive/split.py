"""Which examples are learned from, which choose a step, k and scale, and which only measure.

Examples that ask the same question stay on one side: what was learned with one answer is no
measure of another. Everything follows from the questions and a seed.
Not covered: reading examples (the caller's), and how many folds there are (`plan`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

CHOICE_SHARE = 0.2  # of the questions that are not measured on: they choose
SPARED = 20  # questions that only measure, where no folds are learned
# Below as many times that number, a fifth is spared: too few would be left to learn from.
_SPARED_OF = 2.5
FEWEST_QUESTIONS = 3  # one to learn from, one to choose, one to measure on


class Round(NamedTuple):
    """One learning: positions of the examples that it may see, and of those that measure it."""

    train: tuple[int, ...]
    choice: tuple[int, ...]
    tests: tuple[int, ...]

    @property
    def shown(self) -> tuple[int, ...]:
        """The positions that measure nothing, in order."""
        return tuple(sorted((*self.train, *self.choice)))


def questions_of(conversations: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
    """Return what each conversation asks: all before its last message, but for case and space."""
    return [json.dumps([*map(_plain, conversation[:-1])]) for conversation in conversations]


def _plain(message: Mapping[str, str]) -> tuple[str, str]:
    return message["role"], " ".join(message["content"].split()).casefold()


def cross_fit(questions: Sequence[str], folds: int, *, seed: int) -> tuple[Round, ...]:
    """Return one round for each fold: every example measures once, where no training saw it.

    Args:
        questions: of each example; at least three differ.
        folds: at least 2; at most one for each question is made.
        seed: of the draws.
    """
    order = _shuffled(questions, (seed,))
    folds = min(folds, len(order))
    return tuple(
        _round(questions, frozenset(order[fold::folds]), (seed, fold)) for fold in range(folds)
    )


def spare(questions: Sequence[str], *, seed: int) -> Round:
    """Return one round whose tests are twenty questions, or a fifth of fewer than fifty."""
    order = _shuffled(questions, (seed,))
    count = SPARED if len(order) >= _SPARED_OF * SPARED else max(1, round(len(order) / 5))
    return _round(questions, frozenset(order[:count]), (seed, 0))


def measured_on(questions: Sequence[str], tests: Sequence[str], *, seed: int) -> Round:
    """Return one round of these questions whose tests are others, at the positions after them."""
    after = range(len(questions), len(questions) + len(tests))
    return _round(questions, frozenset(), (seed, 0))._replace(tests=tuple(after))


def numbered(questions: Sequence[str]) -> tuple[int, ...]:
    """Return a number for each question, the same for equal ones, in the order of appearance."""
    numbers = {question: at for at, question in enumerate(dict.fromkeys(questions))}
    return tuple(numbers[question] for question in questions)


def _round(questions: Sequence[str], left_out: frozenset[str], seed: tuple[int, ...]) -> Round:
    """Return the round that measures on some questions, and learns from four fifths of the rest."""
    tests = [at for at, question in enumerate(questions) if question in left_out]
    rest = [at for at, question in enumerate(questions) if question not in left_out]
    order = _shuffled([questions[at] for at in rest], (*seed, 1))
    chooses = frozenset(order[: max(1, round(CHOICE_SHARE * len(order)))])
    train = [at for at in rest if questions[at] not in chooses]
    choice = [at for at in rest if questions[at] in chooses]
    return Round(tuple(train), tuple(choice), tuple(tests))


def _shuffled(questions: Sequence[str], seed: tuple[int, ...]) -> list[str]:
    distinct = list(dict.fromkeys(questions))
    return [distinct[at] for at in np.random.default_rng(seed).permutation(len(distinct))]
