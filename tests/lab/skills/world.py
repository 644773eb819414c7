"""What the examples talk about: people, places, goods, dates and amounts of money.

Whatever an adapter could learn by heart is split by content: a surname, a date or an amount that
tests show appears in no training example of any skill.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from random import Random

from faker import Faker

from server.cli.demo_marks import DAYS, FIRST_DAY
from tests.lab.skills.skill import Split, draw_of_split, of_split

MONTHS = tuple(
    "January February March April May June July August September October November December".split()
)
CURRENCIES = {"$": "USD", "£": "GBP", "€": "EUR"}
FORENAMES_KEPT, SURNAMES_KEPT = 150, 400


@cache
def _names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Forenames and surnames of Faker's British people, each once, in the order drawn."""
    faker = Faker("en_GB")
    faker.seed_instance(2026)
    forenames: dict[str, None] = {}
    surnames: dict[str, None] = {}
    while len(forenames) < FORENAMES_KEPT:
        forenames[faker.first_name()] = None
    while len(surnames) < SURNAMES_KEPT:
        surname = faker.last_name()
        if surname.isalpha():
            surnames[surname] = None
    return tuple(forenames), tuple(surnames)


@cache
def _surnames(split: Split) -> tuple[str, ...]:
    return of_split(_names()[1], split)


def forename(rng: Random) -> str:
    """A forename; the splits share them."""
    return rng.choice(_names()[0])


def surname(rng: Random, split: Split) -> str:
    """A surname of the split."""
    return rng.choice(_surnames(split))


@dataclass(frozen=True, slots=True)
class Written:
    """A value as a person writes it and in ISO form."""

    text: str
    iso: str


def draw_date(rng: Random, split: Split) -> Written:
    """A date of the split: ISO 8601 is year-month-day."""

    def draw() -> date:
        return FIRST_DAY + timedelta(days=rng.randrange(DAYS))

    day = draw_of_split(draw, split)
    month = MONTHS[day.month - 1]
    text = rng.choice((
        f"{day.day} {month} {day.year}",
        f"{month} {day.day}, {day.year}",
        f"{day.day}{_ordinal(day.day)} {month} {day.year}",
        f"{day.day} {month[:3]} {day.year}",
    ))  # fmt: skip
    return Written(text, day.isoformat())


def draw_amount(rng: Random, split: Split) -> Written:
    """An amount of the split: an ISO 4217 code, and a number with a point and two digits."""

    def draw() -> int:
        pence = rng.choice((0, 0, rng.randrange(100)))
        return 100 * rng.choice((rng.randint(5, 99), rng.randint(100, 9999))) + pence

    amount = draw_of_split(draw, split) / 100
    symbol = rng.choice(tuple(CURRENCIES))
    text = f"{amount:,.2f}" if amount % 1 or rng.random() < 0.3 else f"{amount:,.0f}"
    return Written(f"{symbol}{text}", f"{CURRENCIES[symbol]} {amount:.2f}")


def draw_email(rng: Random, first: str, last: str) -> str:
    """An address at one of the domains that are reserved for examples."""
    user = rng.choice((
        f"{first}.{last}", f"{first[0]}{last}", f"{last}{rng.randint(1, 99)}", f"{last}.{first[0]}",
    ))  # fmt: skip
    return f"{user.lower()}@example.{rng.choice(('com', 'net', 'org'))}"


def draw_phone(rng: Random) -> str:
    """A number out of Ofcom's ranges for drama, which are never assigned."""
    area = rng.choice(("0113 496", "0114 496", "0131 496", "0161 496", "07700 900"))
    digits = f"{rng.randrange(1000):03}" if area == "07700 900" else f"0{rng.randrange(1000):03}"
    return f"{area}{digits}" if area == "07700 900" else f"{area} {digits}"


def _ordinal(day: int) -> str:
    return "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
