"""The model card beside an adapter (`README.md`): its text, its licence and its base.

Not covered: any other key of the front matter, and Markdown.
"""

import re
from dataclasses import dataclass
from pathlib import Path

CARD_NAME = "README.md"
MAX_CARD_BYTES = 2**18
_LICENCE = re.compile(
    r"^licen[sc]e:[ \t]*['\"]?([A-Za-z0-9._ -]{1,80}?)['\"]?[ \t]*$", re.MULTILINE
)
# One value, or the first of a list; only a plain name can name a base.
_BASE = re.compile(
    r"^base_model:[ \t]*(?:\n[ \t]*-[ \t]*)?['\"]?([A-Za-z0-9._/-]{1,200})['\"]?[ \t]*$",
    re.MULTILINE,
)


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
    lines = text.replace("\r\n", "\n")
    if not lines.startswith("---\n"):
        return Card(text)
    front = lines[: lines.find("\n---", 3)]
    return Card(text, _value(_LICENCE, front), _value(_BASE, front))


def _value(pattern: re.Pattern[str], front: str) -> str | None:
    match = pattern.search(front)
    return None if match is None else match.group(1)
