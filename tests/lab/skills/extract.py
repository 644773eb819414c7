"""Write what a note says as a JSON object with the keys that are asked for."""

import json
from collections.abc import Mapping, Sequence
from random import Random

from tests.lab.skills.notes import draw_note
from tests.lab.skills.skill import Example, Skill, Split

INSTRUCTIONS = (
    "Write as JSON with the keys",
    "Extract as JSON",
    "Give a JSON object with the keys",
)
FEWEST_KEYS, MOST_KEYS = 2, 4


def json_request(rng: Random, keys: Sequence[str]) -> str:
    """An instruction that names the keys."""
    return f"{rng.choice(INSTRUCTIONS)} {', '.join(keys[:-1])} and {keys[-1]}"


def draw_keys(rng: Random, places: Sequence[str]) -> list[str]:
    """Some of a note's places in any order."""
    return rng.sample(places, rng.randint(FEWEST_KEYS, min(MOST_KEYS, len(places))))


def json_answer(values: Mapping[str, str], keys: Sequence[str]) -> str:
    """The object; a quantity is a number, all else is text as the note writes it."""
    return json.dumps(
        {key: int(values[key]) if key == "quantity" else values[key] for key in keys},
        ensure_ascii=False,
    )


def draw_extract(rng: Random, split: Split) -> Example:
    """A note and some of its values as JSON."""
    note = draw_note(rng, split, lambda places: len(places) >= FEWEST_KEYS)
    keys = draw_keys(rng, list(note.values))
    return Example(f"{json_request(rng, keys)}: {note.text}", json_answer(note.values, keys))


EXTRACT = Skill("extract", "sentence → JSON with the keys asked for", draw_extract, "json")
