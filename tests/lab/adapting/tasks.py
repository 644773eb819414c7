"""The tasks that are learned from a few examples: names that neither base nor pool knows.

Every one does one of two things, and what it does depends on the text: the base composes skills at
a word's bidding but was never asked to choose. How they were found is told in the results' README.

Covered: what each one does and which skills are in it, its examples in tokens.
Not covered: who is asked (`measure.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from merge.adaptive.scoring.examples import Example as Encoded
from merge.adaptive.scoring.examples import encode
from tests.lab.language import VOWELS, Example, Task, apply_skills

LONGEST = 128  # tokens of an example
TESTS_EACH = 200
TEST_SEED = 3
TRAINED_SHARE = 0.8  # of the examples; the others choose the step
# So few that none is spared (as arXiv 2602.12323 does with 10): the last step is kept.
ALL_TRAINED = 10


class Condition(NamedTuple):
    """What a text can be."""

    words: str
    holds: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class FewShotTask:
    """Does the skills of `then` with a text for which the condition holds, else `otherwise`."""

    name: str
    condition: Condition
    then: str  # skill words
    otherwise: str

    @property
    def skills(self) -> frozenset[str]:
        """Every skill in it."""
        return frozenset([*self.then.split(), *self.otherwise.split()])

    @property
    def description(self) -> str:
        """What it does, in words."""
        return f"`{self.then}` where {self.condition.words}, else `{self.otherwise}`"

    @property
    def task(self) -> Task:
        """The same as a task of the language."""
        return Task(self.name, self.description, self._apply)

    def _apply(self, text: str) -> str:
        words = self.then if self.condition.holds(text) else self.otherwise
        return apply_skills(tuple(words.split()), text)


@dataclass(frozen=True, slots=True)
class Split:
    """One task's examples in tokens: to learn from, to choose a step by, and never shown."""

    train: tuple[Encoded, ...]
    validation: tuple[Encoded, ...]
    tests: tuple[Encoded, ...]


FROM_5 = Condition("the text has 5 letters or more", lambda text: len(text) >= 5)
VOWEL_FIRST = Condition("the text begins with a vowel", lambda text: text[0] in VOWELS)
FEW_SHOT = {
    task.name: task
    for task in (
        FewShotTask("corv", FROM_5, "drop stars bang", "rotate next"),  # two of the pool's tasks
        FewShotTask("drax", FROM_5, "sort dots", "swap upper"),
        FewShotTask("gelp", FROM_5, "reverse upper dash", "rotate next dots"),
        FewShotTask("mield", FROM_5, "reverse dash", "sort dash"),
        FewShotTask("nusk", VOWEL_FIRST, "reverse upper", "reverse"),
    )
}


def shown(task: FewShotTask, examples: int, seed: int) -> tuple[list[Example], list[Example]]:
    """Return the training and the validation examples: distinct, and none of them held out.

    Fewer examples are the first of more.
    """
    rng, found = Random(f"few/{task.name}/{seed}"), dict[str, Example]()
    while len(found) < examples:
        example = task.task.draw(rng, "train")
        found.setdefault(example.prompt, example)
    trained = examples if examples <= ALL_TRAINED else round(TRAINED_SHARE * examples)
    drawn = list(found.values())
    return drawn[:trained], drawn[trained:]


def split(tokenizer: Any, task: FewShotTask, examples: int, seed: int) -> Split:
    """Return everything that is asked of one task; the tests are the same for every seed."""
    trained, validation = shown(task, examples, seed)
    tests = task.task.prompts(TESTS_EACH, TEST_SEED)
    parts = (trained, validation, tests)
    return Split(*(tuple(_encode(tokenizer, each) for each in part) for part in parts))


def _encode(tokenizer: Any, example: Example) -> Encoded:
    messages = [
        {"role": "user", "content": example.prompt},
        {"role": "assistant", "content": example.answer},
    ]
    return encode(tokenizer, messages, longest=LONGEST)
