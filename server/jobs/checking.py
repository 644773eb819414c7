"""Examples checked without a job: every problem that would end one, with its place.

Covered: what `datasets` checks. Not covered: lengths in tokens, which take the base's tokenizer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from merge.adaptive.split import questions_of
from server.jobs.datasets import (
    Conversation,
    DatasetInvalid,
    Param,
    check_apart,
    check_enough,
    parse_lines,
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a file; `line` is None for the whole of it."""

    file: Param
    line: int | None
    message: str


@dataclass(slots=True)
class CheckedExamples:
    """What a job would find in its files."""

    examples: int = 0
    questions: int = 0
    validation_examples: int = 0
    problems: list[Problem] = field(default_factory=list)


def check_examples(training: Path, validation: Path | None) -> CheckedExamples:
    """Return the counts of both files and all that is wrong with them.

    Raises:
        OSError: a file cannot be read.
    """
    checked = CheckedExamples()
    learned = _parsed(training, "training_file", checked)
    checked.examples = len(learned)
    checked.questions = len(set(questions_of([*learned.values()])))
    _note(checked, lambda: check_enough(learned))
    if validation is not None:
        held_out = _parsed(validation, "validation_file", checked)
        checked.validation_examples = len(held_out)
        _note(checked, lambda: check_apart(learned, held_out))
    return checked


def _parsed(path: Path, file: Param, checked: CheckedExamples) -> Mapping[int, Conversation]:
    """Return the good lines of a file, and note its bad ones."""
    conversations, bad = parse_lines(path)
    checked.problems += [Problem(file, line.number, line.reason) for line in bad]
    return conversations


def _note(checked: CheckedExamples, check: Callable[[], None]) -> None:
    try:
        check()
    except DatasetInvalid as error:
        if error.bad:
            checked.problems += [Problem(error.param, one.number, one.reason) for one in error.bad]
        else:
            checked.problems.append(Problem(error.param, None, error.reason))
