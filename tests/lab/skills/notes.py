"""Short notes of a shop about orders: the texts that several skills work on.

Skills that work on the same texts can be put together. A note knows how it reads when some of its
values are written otherwise, so every skill's right answer comes from the note itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from server.cli.demo_marks import CITIES, ITEMS
from tests.lab.skills.skill import Split
from tests.lab.skills.world import (
    Written,
    draw_amount,
    draw_date,
    draw_email,
    draw_phone,
    forename,
    surname,
)

MASKS = {"name": "[NAME]", "email": "[EMAIL]", "phone": "[PHONE]"}
PATTERNS = (
    "{name} from {city} ordered {quantity} {item} on {date}.",
    "{name} from {city} ordered {quantity} {item} for {amount}.",
    "On {date}, {name} bought {quantity} {item} for {amount}.",
    "{name} ({email}) paid {amount} for {quantity} {item}.",
    "Please call {name} on {phone} about the {item}.",
    "{name} returned {quantity} {item} on {date}, so refund {amount}.",
    "Deliver {quantity} {item} to {name} in {city} by {date}.",
    "{name} in {city} asked for {quantity} {item}. Write to {email}.",
    "The bill of {amount} for the {item} is due on {date}.",
    "{name} will visit {city} on {date}. Phone: {phone}.",
    "Send the {item} to {name}, {city}, and the bill of {amount} to {email}.",
    "We owe {name} {amount} since {date}.",
    "{name} lost {quantity} {item} in {city}. Call {phone} or write to {email}.",
    "Our shop in {city} sold {quantity} {item} on {date} for {amount}.",
)


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence with places, what stands in them, and what stands there in ISO form."""

    pattern: str
    values: Mapping[str, str]
    iso: Mapping[str, str]

    @property
    def text(self) -> str:
        """The note as it was written."""
        return self.pattern.format(**self.values)

    def masked(self, values: Mapping[str, str] | None = None) -> dict[str, str]:
        """The values, personal data replaced by what it is."""
        return {**(self.values if values is None else values), **self.of(MASKS)}

    def in_iso(self) -> dict[str, str]:
        """The values, dates and amounts in ISO form."""
        return {**self.values, **self.iso}

    def reads(self, values: Mapping[str, str]) -> str:
        """The note with these values."""
        return self.pattern.format(**values)

    def of(self, values: Mapping[str, str]) -> dict[str, str]:
        """Those of the values that the note has a place for."""
        return {name: value for name, value in values.items() if name in self.values}


def draw_note(rng: Random, split: Split, fits: Callable[[set[str]], bool]) -> Note:
    """A note whose places suit: `fits` is asked with their names."""
    while not fits(set(fields(pattern := rng.choice(PATTERNS)))):
        pass
    first, last = forename(rng), surname(rng, split)
    written: dict[str, Written] = {
        "date": draw_date(rng, split), "amount": draw_amount(rng, split),
    }  # fmt: skip
    values = {
        "name": f"{first} {last}",
        "email": draw_email(rng, first, last),
        "phone": draw_phone(rng),
        "city": rng.choice(CITIES),
        "quantity": str(rng.randint(2, 99)),
        "item": rng.choice(ITEMS),
    } | {name: value.text for name, value in written.items()}
    places = fields(pattern)
    return Note(
        pattern,
        {name: values[name] for name in places},
        {name: value.iso for name, value in written.items() if name in places},
    )


def fields(pattern: str) -> list[str]:
    """The names of the places of a pattern, in order."""
    return [part.partition("}")[0] for part in pattern.split("{")[1:]]
