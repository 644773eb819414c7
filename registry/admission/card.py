"""The model card beside an adapter (`README.md`): its text, its licence and its base.

Not covered: any other key of the front matter, and Markdown.
"""

import string
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

CARD_NAME = "README.md"
MAX_CARD_BYTES = 2**18
_LICENCE_KEYS = ("license", "licence")
_BASE_KEY = "base_model"
_MAX_LICENCE, _MAX_BASE = 80, 200
_LICENCE_CHARACTERS = frozenset(string.ascii_letters + string.digits + "._- ")
_BASE_CHARACTERS = frozenset(string.ascii_letters + string.digits + "._-/")
# No line with a licence or a base is longer; a longer one is skipped unread.
_MAX_LINE = 400


@dataclass(frozen=True, slots=True)
class Card:
    """The parsed card; all fields are None if the folder has no card."""

    text: str | None = None
    licence: str | None = None
    base: str | None = None


def read_card(folder: Path) -> Card:
    """Return the card of an adapter's folder, cut at 256 KiB.

    Raises:
        OSError: the card exists and cannot be read.
    """
    path = folder / CARD_NAME
    if path.is_symlink() or not path.is_file():
        return Card()
    with path.open("rb") as file:
        text = file.read(MAX_CARD_BYTES).decode("utf-8-sig", "replace").replace("\0", "�")
    front, _ = split_card(text)
    return Card(text, _licence(front), _base(front))


def split_card(text: str) -> tuple[list[str], str]:
    """Return the lines between the first `---` and the next one, and the text after them.

    There are no such lines if there are not two marks; lines over 400 characters are empty. String
    methods alone, so that the time is linear in the text, which a stranger wrote.
    """
    first, *rest = text.replace("\r\n", "\n").split("\n")
    if first == "---":
        front: list[str] = []
        for number, line in enumerate(rest, 1):
            if line.startswith("---"):
                return front, "\n".join(rest[number:])
            front.append(line if len(line) <= _MAX_LINE else "")
    return [], text


def _licence(front: Iterable[str]) -> str | None:
    """Return the first plain value of `license` or `licence`."""
    for line in front:
        key, _, value = line.partition(":")
        if key in _LICENCE_KEYS:
            licence = _plain(value, _LICENCE_CHARACTERS, _MAX_LICENCE)
            if licence is not None:
                return licence
    return None


def _base(front: list[str]) -> str | None:
    """Return the first plain value of `base_model`: one value, or the first of a list."""
    for line, following in pairwise([*front, ""]):
        key, _, value = line.partition(":")
        if key != _BASE_KEY:
            continue
        item = following.strip(" \t")
        if not value.strip(" \t") and item.startswith("-"):
            value = item[1:]
        base = _plain(value, _BASE_CHARACTERS, _MAX_BASE)
        if base is not None:
            return base
    return None


def _plain(value: str, characters: frozenset[str], longest: int) -> str | None:
    """Return a scalar without its quotes, or None if it is empty, too long or not a plain name."""
    text = value.strip(" \t")
    text = text[1:] if text[:1] in ("'", '"') else text
    text = text[:-1] if text[-1:] in ("'", '"') else text
    return text if 0 < len(text) <= longest and characters.issuperset(text) else None
