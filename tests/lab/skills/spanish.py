"""Write a number in words in Spanish."""

from random import Random

from num2words import num2words

from tests.lab.skills.skill import Example, Skill, Split, draw_of_split

INSTRUCTIONS = (
    "Write the number in Spanish words: {}",
    "Spell in Spanish: {}",
    "How do you say {} in Spanish?",
)


def draw_spanish(rng: Random, split: Split) -> Example:
    """A number below ten thousand and its name, which no other split has."""

    def draw() -> int:
        return rng.randrange(rng.choice((100, 1000, 10_000)))

    number = draw_of_split(draw, split)
    return Example(rng.choice(INSTRUCTIONS).format(number), num2words(number, lang="es"))


SPANISH = Skill("spanish", "number → words in Spanish", draw_spanish, "text")
