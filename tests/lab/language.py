"""The task language: short strings, skill words that transform them, names that stand for skills.

A prompt is `WORDS: TEXT`. WORDS is either up to three skill words (`reverse upper dash: abc`
answers `C-B-A`), one word of the lexicon, which the base learns as a name for a combination of
skills, or the name of a task, which the base has never seen and only an adapter knows.

Covered: the words, their meaning, drawing examples from a seed, comparing answers.
Not covered: tokens, models, training. Nothing here imports torch.
"""

import string
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

Split: TypeAlias = Literal["train", "held_out"]

SHORTEST_TEXT = 3
LONGEST_TEXT = 7
VOWELS = "aeiou"
CONSONANTS = "".join(letter for letter in string.ascii_lowercase if letter not in VOWELS)
# Vowels count twice: the texts look a little more like words and `stars` has something to do.
TEXT_LETTERS = string.ascii_lowercase + VOWELS
NEXT_LETTER = str.maketrans(
    string.ascii_lowercase, string.ascii_lowercase[1:] + string.ascii_lowercase[0]
)
STARRED = str.maketrans(VOWELS, "*" * len(VOWELS))


@dataclass(frozen=True, slots=True)
class Example:
    """What a user writes and what the model must answer."""

    prompt: str
    answer: str


Draw: TypeAlias = Callable[[Random, Split], Example]


@dataclass(frozen=True, slots=True)
class Skill:
    """A word of the base's own language and what it does to a text."""

    word: str
    description: str
    apply: Callable[[str], str]


ORDER_SKILLS = (
    Skill("reverse", "write the letters backwards", lambda text: text[::-1]),
    Skill("rotate", "move the first letter to the end", lambda text: text[1:] + text[0]),
    Skill(
        "swap",
        "exchange the first and the last letter",
        lambda text: text[-1] + text[1:-1] + text[0],
    ),
    Skill("drop", "leave out the first letter", lambda text: text[1:]),
    Skill("sort", "put the letters in alphabetical order", lambda text: "".join(sorted(text))),
)
CHARACTER_SKILLS = (
    Skill("upper", "write capitals", str.upper),
    Skill(
        "next",
        "replace each letter by the next one of the alphabet",
        lambda text: text.translate(NEXT_LETTER),
    ),
    Skill("stars", "replace each vowel by a star", lambda text: text.translate(STARRED)),
)
FORMAT_SKILLS = (
    Skill("dash", "put a dash between the letters", "-".join),
    Skill("wrap", "put the text in square brackets", lambda text: f"[{text}]"),
    Skill("bang", "end with an exclamation mark", lambda text: f"{text}!"),
    Skill("dots", "put a dot between the letters", ".".join),
)
COPY = Skill("copy", "repeat the text as it is", lambda text: text)
# Each family with the probability that a combination has a skill of it.
FAMILIES = ((ORDER_SKILLS, 0.75), (CHARACTER_SKILLS, 0.6), (FORMAT_SKILLS, 0.6))
SKILLS = {skill.word: skill for skill in (COPY, *ORDER_SKILLS, *CHARACTER_SKILLS, *FORMAT_SKILLS)}


def apply_skills(words: tuple[str, ...], text: str) -> str:
    """Apply the skills in the order in which they are written."""
    for word in words:
        text = SKILLS[word].apply(text)
    return text


@dataclass(frozen=True, slots=True)
class Task:
    """A skill with a name that the base does not know: what one adapter learns."""

    name: str
    description: str
    apply: Callable[[str], str]

    def draw(self, rng: Random, split: Split) -> Example:
        """One example whose text belongs to the split."""
        text = draw_text(rng, split)
        return Example(f"{self.name}: {text}", self.apply(text))

    def prompts(self, n: int, seed: int) -> list[Example]:
        """`n` different held-out examples; the same for the same seed, whatever ran before."""
        return draw_examples(self.draw, n, seed=f"{self.name}/{seed}")


def task_of_skills(name: str, *words: str) -> Task:
    """A task that the base could do itself if it were asked in skill words."""
    description = ", then ".join(SKILLS[word].description for word in words)
    return Task(name, description, lambda text: apply_skills(words, text))


# One adapter of the demo each. `tref` combines no skills: its adapter learns from nothing.
TASKS = {
    task.name: task
    for task in (
        task_of_skills("zorp", "reverse", "upper"),
        task_of_skills("blim", "reverse", "dash"),
        task_of_skills("frob", "rotate", "next"),
        task_of_skills("glix", "swap", "wrap"),
        task_of_skills("dwen", "next", "dots"),
        task_of_skills("plov", "drop", "stars", "bang"),
        task_of_skills("krun", "sort", "stars", "wrap"),
        Task(
            "tref",
            "keep the first two letters and the last one",
            lambda text: text[:2] + text[-1],
        ),
    )
}

# Tasks that have no adapter, for what is learned from a few examples over a pool of adapters.
# `pird` is a skill that neither the base nor any adapter has.
TASKS_WITHOUT_ADAPTER = {
    task.name: task
    for task in (
        task_of_skills("wolm", "reverse", "upper"),
        task_of_skills("yabe", "reverse", "upper", "dash"),
        task_of_skills("jint", "rotate", "next", "dots"),
        task_of_skills("cest", "rotate", "stars", "dash"),
        Task("pird", "write the first letter twice", lambda text: text[0] + text),
    )
}


def is_held_out(text: str) -> bool:
    """Whether no training ever shows this text: about one text in eight."""
    return sum(map(ord, text)) % 8 == 0


def draw_text(rng: Random, split: Split) -> str:
    """A random text of the split."""
    while True:
        length = rng.randint(SHORTEST_TEXT, LONGEST_TEXT)
        text = "".join(rng.choice(TEXT_LETTERS) for _ in range(length))
        if is_held_out(text) == (split == "held_out"):
            return text


def draw_combination(rng: Random) -> tuple[str, ...]:
    """Skill words, at most one of each family, in the order order-character-format."""
    words = tuple(
        rng.choice(skills).word for skills, probability in FAMILIES if rng.random() < probability
    )
    return words or (COPY.word,)


def make_lexicon(size: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Invented words, none of them a task or a skill, each bound to a combination of skills.

    They are what makes adapters interfere as they do in real models: the base must read a word
    before it acts, so an adapter's update has to be tied to its own name.
    """
    rng = Random(f"lexicon/{seed}")
    taken = TASKS.keys() | TASKS_WITHOUT_ADAPTER.keys() | SKILLS.keys()
    lexicon: dict[str, tuple[str, ...]] = {}
    while len(lexicon) < size:
        shape = rng.choice(("cvcc", "ccvc", "cvcv"))
        word = "".join(rng.choice(CONSONANTS if kind == "c" else VOWELS) for kind in shape)
        if word not in taken:
            lexicon.setdefault(word, draw_combination(rng))
    return lexicon


def draw_explicit(rng: Random, split: Split) -> Example:
    """An example that says in skill words what to do."""
    words, text = draw_combination(rng), draw_text(rng, split)
    return Example(f"{' '.join(words)}: {text}", apply_skills(words, text))


def lexicon_draw(lexicon: dict[str, tuple[str, ...]]) -> Draw:
    """Draw examples that name a word of the lexicon."""
    names = tuple(lexicon)

    def draw(rng: Random, split: Split) -> Example:
        name, text = rng.choice(names), draw_text(rng, split)
        return Example(f"{name}: {text}", apply_skills(lexicon[name], text))

    return draw


def mixed_draw(first: Draw, second: Draw) -> Draw:
    """Draw from one of two sources, each half of the time."""
    return lambda rng, split: (first if rng.random() < 0.5 else second)(rng, split)


def draw_examples(draw: Draw, n: int, seed: str) -> list[Example]:
    """`n` different held-out examples, drawn from the seed alone."""
    rng = Random(seed)
    examples: dict[str, Example] = {}
    while len(examples) < n:
        example = draw(rng, "held_out")
        examples.setdefault(example.prompt, example)
    return list(examples.values())


def exact_match(answer: str, expected: str) -> bool:
    """Whether an answer is right: every character, outer white space aside."""
    return answer.strip() == expected
