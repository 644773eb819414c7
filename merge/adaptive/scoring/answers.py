"""Whether an answer is right: exact match as arXiv 2602.12323 has it, or a pattern that must occur.

Its release removes spaces and a full stop at the end, ignores case, and takes what follows `####`
as the answer, as GSM8K writes it. Not covered: answers that are right in other words.
"""

import re

_MARK = "####"


def normalise(text: str) -> str:
    """Return what counts of an answer."""
    final = text.rpartition(_MARK)[2]
    return "".join(final.split()).rstrip(".").lower()


def matches(answer: str, expected: str) -> bool:
    """Whether an answer is the expected one, normalised."""
    return normalise(answer) == normalise(expected)


def occurs(pattern: str, text: str) -> bool:
    """Whether the pattern finds something."""
    return re.search(pattern, text) is not None


def agrees(pattern: str, answer: str, expected: str) -> bool:
    """Whether the pattern finds the same in both: its first group, or all that it matched.

    Nothing found in the expected answer is agreed with by nothing found in the answer.
    """
    return _first(pattern, answer) == _first(pattern, expected)


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    if found is None:
        return None
    return found[1] if found.re.groups else found[0]
