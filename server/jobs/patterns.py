"""Whether answers agree by a pattern, computed in a child process.

A regular expression can take exponential time, and holds the interpreter's lock while it does.
Blocking: call it off the event loop.
"""

from collections.abc import Sequence

from merge.adaptive.scoring.answers import agrees
from server import children

_SECONDS = 30.0
Pairs = Sequence[tuple[str, str]]  # an answer, and the expected one


class PatternSlow(Exception):
    """A pattern took longer than it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the pattern took longer than {seconds:g} s: write a simpler one")


def agreements(pattern: str, pairs: Pairs, *, seconds: float = _SECONDS) -> tuple[bool, ...]:
    """Return for each pair whether the pattern finds the same in both.

    Raises:
        PatternSlow: it takes longer than `seconds`, or more memory than there is.
    """
    try:
        return children.call(_agreements, pattern, list(pairs), seconds=seconds)
    except (children.ChildTimeout, children.ChildDied):
        raise PatternSlow(seconds) from None


def _agreements(pattern: str, pairs: Pairs) -> tuple[bool, ...]:
    return tuple(agrees(pattern, *pair) for pair in pairs)
