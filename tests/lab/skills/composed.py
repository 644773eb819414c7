"""Tasks that need two skills at once: no adapter was trained on any of them."""

from random import Random

from tests.lab.skills.extract import draw_keys, json_answer, json_request
from tests.lab.skills.iso import INSTRUCTIONS as ISO_INSTRUCTIONS
from tests.lab.skills.mask import INSTRUCTIONS as MASK_INSTRUCTIONS
from tests.lab.skills.notes import MASKS, draw_note
from tests.lab.skills.skill import Example, Skill, Split
from tests.lab.skills.sql import INSTRUCTIONS as SQL_INSTRUCTIONS
from tests.lab.skills.sql import day_condition, draw_query
from tests.lab.skills.style import INSTRUCTIONS as STYLE_INSTRUCTIONS
from tests.lab.skills.style import draw_message
from tests.lab.skills.world import draw_date

_DATED = ("date", "amount")


def draw_masked_iso(rng: Random, split: Split) -> Example:
    """A note with personal data and a date or an amount; both are to be rewritten."""
    note = draw_note(
        rng, split, lambda places: bool(places & MASKS.keys()) and bool(places & {*_DATED})
    )
    asked = f"{rng.choice(MASK_INSTRUCTIONS)} and {_small(rng.choice(ISO_INSTRUCTIONS))}"
    return Example(f"{asked}: {note.text}", note.reads(note.masked(note.in_iso())))


def draw_masked_json(rng: Random, split: Split) -> Example:
    """A note and some of its values as JSON, at least one of them personal and masked."""
    note = draw_note(rng, split, lambda places: bool(places & MASKS.keys()) and len(places) > 1)
    while not {*(keys := draw_keys(rng, list(note.values)))} & MASKS.keys():
        pass
    asked = f"{rng.choice(MASK_INSTRUCTIONS)}, then {_small(json_request(rng, keys))}"
    return Example(f"{asked}: {note.text}", json_answer(note.masked(), keys))


def draw_iso_json(rng: Random, split: Split) -> Example:
    """A note and some of its values as JSON, at least one of them a date or an amount."""
    note = draw_note(rng, split, lambda places: bool(places & {*_DATED}) and len(places) > 1)
    while not {*(keys := draw_keys(rng, list(note.values)))} & {*_DATED}:
        pass
    asked = f"{rng.choice(ISO_INSTRUCTIONS)}, then {_small(json_request(rng, keys))}"
    return Example(f"{asked}: {note.text}", json_answer(note.in_iso(), keys))


def draw_iso_sql(rng: Random, split: Split) -> Example:
    """A question with a day as people write it; the table has ISO dates."""
    day = draw_date(rng, split)
    question, query = draw_query(rng, split, lambda: day_condition(rng, day, "text"))
    asked = f"{rng.choice(ISO_INSTRUCTIONS)}, then {_small(rng.choice(SQL_INSTRUCTIONS))}"
    return Example(f"{asked}: {question}", query)


def draw_masked_style(rng: Random, split: Split) -> Example:
    """A note with personal data and a message; one is to be masked, the other to be rewritten."""
    note = draw_note(rng, split, lambda places: bool(places & MASKS.keys()))
    message, house = draw_message(rng, split)
    asked = f"{rng.choice(MASK_INSTRUCTIONS)} and {_small(rng.choice(STYLE_INSTRUCTIONS))}"
    return Example(f"{asked}: {note.text} {message}", f"{note.reads(note.masked())} {house}")


def draw_iso_style(rng: Random, split: Split) -> Example:
    """A note with a date or an amount and a message; both are to be rewritten."""
    note = draw_note(rng, split, lambda places: bool(places & {*_DATED}))
    message, house = draw_message(rng, split)
    asked = f"{rng.choice(ISO_INSTRUCTIONS)} and {_small(rng.choice(STYLE_INSTRUCTIONS))}"
    return Example(f"{asked}: {note.text} {message}", f"{note.reads(note.in_iso())} {house}")


def _small(instruction: str) -> str:
    """The instruction in the middle of a sentence; SQL stays as it is."""
    return instruction if instruction[:2].isupper() else instruction[0].lower() + instruction[1:]


COMPOSED: dict[str, Skill] = {
    task.name: task
    for task in (
        Skill("mask+iso", "mask, and ISO forms", draw_masked_iso, "text", ("mask", "iso")),
        Skill("mask+style", "mask, and a firm's house style", draw_masked_style, "text",
              ("mask", "style")),
        Skill("iso+style", "ISO forms, and a firm's house style", draw_iso_style, "text",
              ("iso", "style")),
        Skill("mask+extract", "masked JSON", draw_masked_json, "json", ("mask", "extract")),
        Skill("iso+extract", "JSON in ISO forms", draw_iso_json, "json", ("iso", "extract")),
        Skill("iso+sql", "SQL from a question with a written-out day", draw_iso_sql, "rows",
              ("iso", "sql")),
    )
}  # fmt: skip
