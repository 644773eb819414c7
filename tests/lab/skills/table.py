"""Write two or three short notes as a Markdown table."""

from collections.abc import Mapping, Sequence
from random import Random

from server.cli.demo_marks import CITIES, ITEMS
from tests.lab.skills.notes import Note, fields
from tests.lab.skills.skill import Example, Skill, Split
from tests.lab.skills.world import draw_date, forename, surname

INSTRUCTIONS = ("Write as a Markdown table", "Make a Markdown table", "Show as a Markdown table")
PATTERNS = (
    "{name} ordered {quantity} {item} on {date}.",
    "{name} from {city} ordered {quantity} {item}.",
    "{name} will visit {city} on {date}.",
    "On {date}, {city} sold {quantity} {item}.",
)
NUMBERS_OF_ROWS = (2, 2, 3)


def draw_row(rng: Random, split: Split, pattern: str) -> Note:
    """A note of this pattern."""
    day = draw_date(rng, split)
    values = {
        "name": f"{forename(rng)} {surname(rng, split)}",
        "city": rng.choice(CITIES),
        "quantity": str(rng.randint(2, 99)),
        "item": rng.choice(ITEMS),
        "date": day.text,
    }
    return Note(pattern, {name: values[name] for name in fields(pattern)},
                {"date": day.iso} if "{date}" in pattern else {})  # fmt: skip


def draw_rows(rng: Random, split: Split) -> list[Note]:
    """Two or three notes of one pattern."""
    pattern = rng.choice(PATTERNS)
    return [draw_row(rng, split, pattern) for _ in range(rng.choice(NUMBERS_OF_ROWS))]


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The rows as a Markdown table with a header."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def draw_table(rng: Random, split: Split) -> Example:
    """Notes of one pattern and their table, with a column for each place of the pattern."""
    rows = draw_rows(rng, split)
    text = " ".join(row.text for row in rows)
    return Example(f"{rng.choice(INSTRUCTIONS)}: {text}", markdown([row.values for row in rows]))


TABLE = Skill("table", "sentences → Markdown table", draw_table, "table")
