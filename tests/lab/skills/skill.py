"""What a skill is: a generator of examples, split by content, and a program that checks answers.

Covered: examples, splits, drawing examples from a seed. Not covered: tokens, models, training.
Nothing in this package imports torch.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias, TypeVar

from server.cli.demo_marks import MARKS

Split: TypeAlias = Literal["train", "validation", "test"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Example:
    """What a user writes and a right answer."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Skill:
    """A task that one adapter learns, or one that needs the skills of two (`parts`)."""

    name: str
    description: str
    draw: Callable[[Random, Split], Example]
    compared: str  # how an answer is: one of the demo's MARKS
    parts: tuple[str, ...] = ()

    def right(self, answer: str, example: Example) -> bool:
        """Whether an answer is right."""
        return MARKS[self.compared](answer, example.answer)

    def examples(self, split: Split, n: int, seed: int) -> list[Example]:
        """`n` examples of different prompts; the same for the same seed, whatever ran before."""
        rng = Random(f"{self.name}/{split}/{seed}")
        examples: dict[str, Example] = {}
        while len(examples) < n:
            example = self.draw(rng, split)
            examples.setdefault(example.prompt, example)
        return list(examples.values())


def split_of(content: str) -> Split:
    """The split that a content belongs to: a tenth is for testing, a tenth for validation."""
    tenth = hashlib.sha256(content.encode()).digest()[0] % 10
    return "test" if tenth == 0 else "validation" if tenth == 1 else "train"


def of_split(contents: Sequence[str], split: Split) -> tuple[str, ...]:
    """Those of the contents that belong to the split."""
    return tuple(content for content in contents if split_of(content) == split)


def draw_of_split(draw: Callable[[], T], split: Split, content: Callable[[T], str] = str) -> T:
    """Draw until the content belongs to the split."""
    while split_of(content(drawn := draw())) != split:
        pass
    return drawn
