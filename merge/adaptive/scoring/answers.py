"""Comparison of answers: exact match as in arXiv 2602.12323, or by a regular expression.

The release of the paper removes spaces and a full stop at the end, ignores case, and takes the text
after `####` as the answer, as GSM8K writes it. Not covered: equivalent answers in other words.
"""

from typing import Any

from merge.adaptive.patterns import compiled

_MARK = "####"


def normalise(text: str) -> str:
    """Return the part of an answer that is compared, normalised."""
    final = text.rpartition(_MARK)[2]
    return "".join(final.split()).rstrip(".").lower()


def matches(answer: str, expected: str) -> bool:
    """Return whether an answer equals the expected one after normalisation."""
    return normalise(answer) == normalise(expected)


def occurs(pattern: str, text: str) -> bool:
    """Return whether the pattern matches anywhere in the text."""
    return _match(pattern, text) is not None


def agrees(pattern: str, answer: str, expected: str) -> bool:
    """Return whether the pattern matches the same text in both: its first group, or the match.

    If it matches nothing in the expected answer, it must match nothing in the answer.
    """
    return _first(pattern, answer) == _first(pattern, expected)


def _first(pattern: str, text: str) -> str | None:
    match = _match(pattern, text)
    if match is None:
        return None
    first: str | None = match[1] if match.re.groups else match[0]
    return first


def _match(pattern: str, text: str) -> Any:
    # RE2 works on UTF-8, which has no halves of surrogate pairs; JSON can hold them.
    return compiled(pattern).search(text.encode("utf-8", "replace").decode())
