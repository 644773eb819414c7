"""What the hand-written parsers share: reading from left to right, and errors with a caret.

Used by the filters of search (`registry.search.filters`) and the `model` field
(`server.compose.expression`).
"""

import re
from collections.abc import Callable

_SPACE = re.compile(r"\s*")


class Scanner:
    """Reads one text from left to right; `at` is the position of the next character."""

    def __init__(self, text: str, invalid: Callable[[str, int, str], Exception]) -> None:
        """Start at the beginning.

        Args:
            text: to be read.
            invalid: makes the error from the text, a position and what was expected there.
        """
        self.text = text
        self.at = 0
        self._invalid = invalid

    @property
    def at_end(self) -> bool:
        """True when nothing is left."""
        return self.at >= len(self.text)

    def skip_space(self) -> None:
        """Move to the next character that is not white space."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def peek(self) -> str:
        """Return the next character that is not white space, or "" at the end."""
        self.skip_space()
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """Return what `pattern` matches here and move behind it, or None."""
        match = pattern.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match.group()

    def take_char(self, char: str) -> bool:
        """Move behind `char` if it is next; return whether it was."""
        matches = self.text.startswith(char, self.at)
        self.at += len(char) if matches else 0
        return matches

    def expect(self, char: str, expected: str | None = None) -> None:
        """Move behind white space and `char`; anything else is the error for `expected`."""
        self.skip_space()
        if not self.take_char(char):
            raise self.error(expected or repr(char))

    def error(self, expected: str, position: int | None = None) -> Exception:
        """Return the error that says what was expected, here or at `position`."""
        return self._invalid(self.text, self.at if position is None else position, expected)


def pointer(text: str, position: int) -> str:
    """Return two lines: the part of a text around a position, and a caret under the position.

    The part is short, so that a hostile kilobyte does not fill the message, and control characters
    in it are question marks.
    """
    start = max(0, position - 60)
    window = "".join(
        " " if c.isspace() else c if c.isprintable() else "?" for c in text[start : position + 20]
    )
    return f"  {window}\n  {' ' * (position - start)}^"
