"""Rewrite a message in the house style of a British firm.

The rules: British spelling, `per cent` for `%`, hours from 00:00 to 23:59 without am or pm, and no
contractions.
"""

from random import Random

from server.cli.demo_marks import CITIES
from tests.lab.skills.skill import Example, Skill, Split, draw_of_split

INSTRUCTIONS = (
    "Rewrite in our house style",
    "Apply the house style",
    "Edit to follow the house style",
)
SPELLINGS = {
    "color shop": "colour shop", "city center": "city centre", "catalog": "catalogue",
    "gray house": "grey house", "favorite bar": "favourite bar", "labor office": "labour office",
    "theater": "theatre", "travelers' club": "travellers' club", "program": "programme",
    "harbor": "harbour", "jewelry shop": "jewellery shop", "neighbor's shop": "neighbour's shop",
}  # fmt: skip
CONTRACTIONS = {
    "don't": "do not", "can't": "cannot", "won't": "will not", "we'll": "we will",
    "we're": "we are", "it's": "it is", "isn't": "is not", "didn't": "did not",
    "they're": "they are", "couldn't": "could not",
}  # fmt: skip
# Each has a place for a spelling (s), a time (t), a share (p), or for words that may be contracted.
PATTERNS = (
    "We'll open the {s} at {t}.",
    "The {s} in {c} isn't open before {t}.",
    "Sales of the {s} rose by {p} in {c}.",
    "They're late, so the {s} starts at {t}.",
    "We can't sell the {s} for {p} less.",
    "It's {p} cheaper at the {s} in {c}.",
    "We didn't see the {s} until {t}.",
    "Don't call the {s} after {t}.",
    "The {s} won't close before {t} on Monday.",
    "We're sure that {p} of them like the {s}.",
    "You couldn't find the {s} in {c} at {t}.",
    "At {t} the {s} was {p} full.",
)


def draw_style(rng: Random, split: Split) -> Example:
    """A message with two to four things to change, and what the house style makes of it."""
    before, house = draw_message(rng, split)
    return Example(f"{rng.choice(INSTRUCTIONS)}: {before}", house)


def draw_message(rng: Random, split: Split) -> tuple[str, str]:
    """A message, and the message in the house style."""

    def draw() -> tuple[str, str]:
        minutes = rng.choice((0, 0, 30, 15, 45, rng.randrange(60)))
        hour, share = rng.randrange(24), rng.randint(2, 98)
        clock = f"{hour % 12 or 12}" + (f":{minutes:02}" if minutes or rng.random() < 0.5 else "")
        half = "am" if hour < 12 else "pm"
        american = rng.choice(tuple(SPELLINGS))
        pattern, city = rng.choice(PATTERNS), rng.choice(CITIES)
        before = pattern.format(s=american, t=f"{clock} {half}", p=f"{share}%", c=city)
        house = _expanded(pattern).format(
            s=SPELLINGS[american], t=f"{hour:02}:{minutes:02}", p=f"{share} per cent", c=city
        )
        return before, house

    return draw_of_split(draw, split, lambda pair: pair[1])


def _expanded(text: str) -> str:
    for short, long in CONTRACTIONS.items():
        text = text.replace(short, long).replace(short.capitalize(), long.capitalize())
    return text


STYLE = Skill("style", "message → a firm's house style", draw_style, "text")
