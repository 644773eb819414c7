"""The scanner of the hand-written parsers, and the caret that marks a position in an error.

The parsers of search filters (`registry.search.filters`) and of the `model` field
(`server.compose.expression`) use it.
"""

import re
from collections.abc import Callable

_SPACE = re.compile(r"\s*")


class Scanner:
    """Reads one text from left to right; `at` is the position of the next character."""

    def __init__(self, text: str, invalid: Callable[[str, int, str], Exception]) -> None:
        """Start at the beginning of a text.

        Args:
            text: the text to scan.
            invalid: creates an error from the text, a position and the expected syntax.
        """
        self.text = text
        self.at = 0
        self._invalid = invalid

    @property
    def at_end(self) -> bool:
        """Whether the whole text is consumed."""
        return self.at >= len(self.text)

    def skip_space(self) -> None:
        """Advance to the next character that is not white space."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def peek(self) -> str:
        """Return the next character that is not white space, or "" at the end."""
        self.skip_space()
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """Consume and return the match of `pattern` at this position, or return None."""
        match = pattern.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match.group()

    def take_char(self, char: str) -> bool:
        """Consume `char` if it is next, and return whether it was."""
        matches = self.text.startswith(char, self.at)
        self.at += len(char) if matches else 0
        return matches

    def expect(self, char: str, expected: str | None = None) -> None:
        """Consume white space and `char`; raise the error for `expected` if `char` is not next."""
        self.skip_space()
        if not self.take_char(char):
            raise self.error(expected or repr(char))

    def error(self, expected: str, position: int | None = None) -> Exception:
        """Return the error for the expected syntax at this position, or at `position`."""
        return self._invalid(self.text, self.at if position is None else position, expected)


def pointer(text: str, position: int) -> str:
    """Return two lines: an excerpt of a text around a position, and a caret below the position.

    The excerpt is short, so that a long hostile text does not fill the message. Control characters
    are replaced with question marks.
    """
    start = max(0, position - 60)
    window = "".join(
        " " if c.isspace() else c if c.isprintable() else "?" for c in text[start : position + 20]
    )
    return f"  {window}\n  {' ' * (position - start)}^"
