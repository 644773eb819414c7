"""Mask personal data: names, addresses of mail, telephone numbers."""

from random import Random

from tests.lab.skills.notes import MASKS, draw_note
from tests.lab.skills.skill import Example, Skill, Split

INSTRUCTIONS = (
    "Mask the personal data",
    "Hide names, emails and phone numbers",
    "Replace all personal data by placeholders",
)


def draw_mask(rng: Random, split: Split) -> Example:
    """A note, and the note with [NAME], [EMAIL] and [PHONE]. One in nine has nothing to mask."""
    bare = rng.random() < 1 / 9
    note = draw_note(rng, split, lambda places: bool(places & MASKS.keys()) is not bare)
    return Example(f"{rng.choice(INSTRUCTIONS)}: {note.text}", note.reads(note.masked()))


MASK = Skill("mask", "personal data → placeholders", draw_mask, "text")
