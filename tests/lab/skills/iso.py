"""Write dates by ISO 8601 and amounts of money with the codes of ISO 4217."""

from random import Random

from tests.lab.skills.notes import draw_note
from tests.lab.skills.skill import Example, Skill, Split

INSTRUCTIONS = (
    "Write dates and amounts in ISO form",
    "Convert dates and amounts to ISO form",
    "Use ISO dates and currency codes",
)


def draw_iso(rng: Random, split: Split) -> Example:
    """A note, and the note with its dates and amounts in ISO form."""
    note = draw_note(rng, split, lambda places: bool(places & {"date", "amount"}))
    return Example(f"{rng.choice(INSTRUCTIONS)}: {note.text}", note.reads(note.in_iso()))


ISO = Skill("iso", "dates and amounts → ISO forms", draw_iso, "text")
