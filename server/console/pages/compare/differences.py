"""Where two answers differ, word by word."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import NamedTuple

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
# Comparing takes time by the square of the words: what is longer is told apart as a whole.
_MAX_WORDS = 2000


class Segment(NamedTuple):
    """A piece of an answer, and whether the other answer lacks it there."""

    text: str
    differs: bool


def differences(answer: str, other: str) -> tuple[Segment, ...]:
    """Return an answer in pieces: those that it shares with another answer, and those of its own.

    Pieces joined are the answer again.
    """
    if answer == other:
        return (Segment(answer, differs=False),) if answer else ()
    ours, theirs = _WORD.findall(answer), _WORD.findall(other)
    if max(len(ours), len(theirs)) > _MAX_WORDS:
        return (Segment(answer, differs=True),)
    return tuple(_segments(ours, theirs))


def _segments(ours: list[str], theirs: list[str]) -> Iterator[Segment]:
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    for kind, begin, end, _, _ in matcher.get_opcodes():
        if end > begin:
            yield Segment("".join(ours[begin:end]), differs=kind != "equal")
