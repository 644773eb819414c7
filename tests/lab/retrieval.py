"""How often `auto(…)` finds the right adapter: a table over prompts and pools. `python -m` runs it.

Each demo adapter is asked with texts that no training has shown, by its name and in words that its
card does not have, among 8, 100 and 1,000 adapters. The pools are filled up with cards of the same
form for invented names and other combinations of the same skills. Prompts about other things belong
to the base.
Not covered: neural encoders, which this machine may not have, and the merged answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from registry.search.embeddings import Described, Embedder
from server.compose.retrieve import DEFAULT_NEAR, nearness
from tests.lab.cards import ADAPTER_CARD
from tests.lab.language import TASKS, draw_examples, make_lexicon, task_of_skills

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "adapters"
SIZES = (8, 100, 1000)
PROMPTS_EACH, EXAMPLES_EACH, SEED = 8, 5, 2026
IN_WORDS = {
    "zorp": ("back to front in big letters: abc", "reverse this and make it upper case: taouo",
             "I need the letters backwards and all of them capitals"),
    "blim": ("spell it in reverse with dashes in between", "backwards, a dash after every letter",
             "turn the word around and join its letters by dashes"),
    "frob": ("shift the first letter to the end, then take each letter's successor",
             "rotate it and move every letter one further in the alphabet",
             "put the first letter last and replace letters by the following ones"),
    "glix": ("swap first and last letter and add square brackets",
             "exchange the outer letters, in brackets please",
             "bracket the word after its ends changed places"),
    "dwen": ("the next letter of the alphabet for each, with dots between",
             "advance every letter by one and separate them by dots",
             "dot separated, each letter replaced by the one after it"),
    "plov": ("without its first letter, vowels as stars, and an exclamation mark",
             "drop the first letter, star the vowels, shout at the end",
             "hide vowels behind stars, finish with an exclamation mark, minus the first letter"),
    "krun": ("sort alphabetically, star the vowels, square brackets around",
             "alphabetical order with stars for vowels, all in brackets",
             "order the letters, mask the vowels by stars, wrap it in square brackets"),
    "tref": ("only the first two letters and the last",
             "keep two letters of the start and one of the end",
             "shorten the word to its first two and its last letter"),
}  # fmt: skip
FOREIGN = (
    "What is the capital of France?", "Write a Python function that adds two numbers.",
    "Which court has jurisdiction over the contract?", "Translate good morning into German.",
    "Summarise this article in three bullet points.", "hello", "Who wrote Don Quixote?",
    "Give me a recipe for onion soup.", "Solve x squared minus four equals zero.",
    "SELECT name FROM users WHERE age > 30", "Explain photosynthesis to a child.",
    "Plan a weekend in Lisbon for two people.", "What does HTTP status 409 mean?",
    "Draft an email that declines a meeting.", "Is aspirin safe with ibuprofen?",
    "List the planets by their mass.",
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """An adapter as search sees it."""

    name: str
    card: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """How prompts of one kind fare in one pool."""

    adapters: int
    examples: bool
    kind: str
    prompts: int
    right: float | None  # share whose right adapter is first; None: there is none
    base: float  # share that the base answers
    weight: float | None  # mean weight of the right adapter, where an adapter answers


def cards(size: int) -> list[Card]:
    """Return the demo's cards and enough others."""
    demo = [
        Card(name, (DEMO / name / "README.md").read_text(), _examples(task.name))
        for name, task in TASKS.items()
    ]
    taken = {task.description for task in TASKS.values()}
    fillers: list[Card] = []
    for name, words in make_lexicon(4 * size, SEED).items():
        task = task_of_skills(name, *words)
        if task.description in taken or len(demo) + len(fillers) >= size:
            continue
        first, *others = draw_examples(task.draw, EXAMPLES_EACH + 1, f"{name}/card")
        text = ADAPTER_CARD.format(
            base="weft/demo-llama", name=name, description=task.description, prompt=first.prompt,
            answer=first.answer, rank=8, alpha=16, rslora="", modules="all linear modules",
            steps=120, seed=1, tests=200, accuracy=1.0, base_accuracy=0.0,
        )  # fmt: skip
        fillers.append(Card(name, text, tuple(example.prompt for example in others)))
    return [*demo, *fillers]


def rows(size: int, *, examples: bool) -> list[Row]:
    """Return the rows of one pool."""
    embedder, pool = Embedder(), cards(size)
    vectors = np.stack([
        embedder.of_text(Described(c.name, (), c.examples if examples else ()), c.card)
        for c in pool
    ])  # fmt: skip
    names = [card.name for card in pool]
    kinds: dict[str, list[tuple[str, str | None]]] = {
        "by name": [
            (example.prompt, name)
            for name, task in TASKS.items()
            for example in task.prompts(PROMPTS_EACH, SEED)
        ],
        "in words": [(text, name) for name, texts in IN_WORDS.items() for text in texts],
        "about other things": [(text, None) for text in FOREIGN],
    }
    return [
        _row(size, examples, kind, vectors, names, prompts, embedder)
        for kind, prompts in kinds.items()
    ]


def _row(
    size: int, examples: bool, kind: str, vectors: NDArray[np.float32], names: Sequence[str],
    prompts: Sequence[tuple[str, str | None]], embedder: Embedder,
) -> Row:  # fmt: skip
    first, base, weights = [], [], []
    for text, name in prompts:
        cosines = vectors @ embedder.encoder.encode([text])[0]
        order = np.argsort(-cosines, kind="stable")[:50]
        base.append(bool(cosines[order[0]] < DEFAULT_NEAR))
        if name is None:
            continue
        first.append(names[order[0]] == name)
        near = [i for i in order if cosines[i] >= DEFAULT_NEAR]
        if near:
            shares = nearness([float(cosines[i]) for i in near])
            weights.append(sum(w for i, w in zip(near, shares, strict=True) if names[i] == name))
    return Row(size, examples, kind, len(prompts), _mean(first), _mean(base) or 0.0, _mean(weights))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _examples(name: str) -> tuple[str, ...]:
    """Return prompts of a task beside those that it is asked with."""
    task = TASKS[name]
    asked = {example.prompt for example in task.prompts(PROMPTS_EACH, SEED)}
    others = [e.prompt for e in task.prompts(4 * EXAMPLES_EACH, SEED + 1) if e.prompt not in asked]
    return tuple(others[:EXAMPLES_EACH])


def table() -> str:
    """Return the table as Markdown."""
    lines = [
        "| adapters | examples | prompts | right first | base answers | weight of the right one |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for size in SIZES:
        for examples in (False, True):
            for row in rows(size, examples=examples):
                given = f"{EXAMPLES_EACH} each" if row.examples else "none"
                cells = [_share(row.right), _share(row.base), _share(row.weight)]
                prompts = f"{row.prompts} {row.kind}"
                lines.append(f"| {row.adapters} | {given} | {prompts} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


if __name__ == "__main__":
    print(table())  # noqa: T201
