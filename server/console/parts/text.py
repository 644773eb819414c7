"""Text of others as text: bounded, and with the characters shown that would reorder or hide it."""

import re

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

LINE_CHARACTERS = 300
_STEP_CHARACTERS = 20_000
# Controls, marks and overrides of direction, halves of characters. Newlines and tabs stay.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: str, limit: int = LINE_CHARACTERS) -> str:
    """Return a text cut to `limit` characters, its hidden characters as `⟨U+202E⟩`."""
    cut = text if len(text) <= limit else f"{text[:limit]}…"
    return _HIDDEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", cut)


def tagged(tag: str, text: str, limit: int = LINE_CHARACTERS) -> TextElement:
    """Return an element of this tag that shows a text; its direction does not leave it."""
    element = TextElement(tag=tag, text=plain(text, limit))
    return element.classes("weft-text")


def long_text(text: str, label: str) -> None:
    """Show a text of any length in a box that scrolls: 20,000 characters, and more on request."""
    # A box that scrolls must be reachable by keyboard.
    box = ui.element("section").classes("weft-long").props("tabindex=0")
    box.props["aria-label"] = label
    with box:
        shown = tagged("pre", text, _STEP_CHARACTERS)
    if len(text) <= _STEP_CHARACTERS:
        return
    end = _STEP_CHARACTERS

    def more() -> None:
        nonlocal end
        end += _STEP_CHARACTERS
        shown.set_text(plain(text, end))
        button.set_visibility(end < len(text))

    button = ui.button("Show more", on_click=more).props("flat no-caps")
