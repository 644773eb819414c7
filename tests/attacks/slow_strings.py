"""Strings that are made to be slow for a regular expression, from its own syntax.

For each repetition of a pattern: what comes before it, then the repeated part many times, then
something that does not match. Also the beginning of the pattern many times, for which a search
starts anew at each. Not covered: what only several repetitions together make slow.
"""

import re
import time
from collections.abc import Callable, Iterator
from re import _constants as op  # the parser of `re` has no public name
from re import _parser as parser
from typing import Any

_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_OTHERS = "a0 _-.!\n\x01é"
_CATEGORIES = {
    op.CATEGORY_DIGIT: "0", op.CATEGORY_WORD: "a0_", op.CATEGORY_SPACE: " \n",
    op.CATEGORY_NOT_DIGIT: "a ", op.CATEGORY_NOT_WORD: " -", op.CATEGORY_NOT_SPACE: "a0-",
}  # fmt: skip
_MANY = 20  # repetitions of at most so many times are not pumped
_TAILS = ("", "!", "\n!", "\x01", "a", " ")
# Short ones first: what takes exponential time fails there.
_LENGTHS = (22, 200, 600, 2000, 10_000, 50_000)
_SECONDS_PER_CHARACTER, _FLOOR_SECONDS = 1e-6, 0.03


def slowest(pattern: re.Pattern[str], method: str) -> str | None:
    """Return what takes `pattern` more than linear time, or None if nothing tried does.

    Linear means: a microsecond of CPU a character, some ten times what a match takes, or at most
    three times what half of the text takes: on a busy machine both are slower.
    """
    call = getattr(pattern, method)
    run: Callable[[str], object] = (lambda s: call("", s)) if method in ("sub", "subn") else call
    for start, unit in sorted(set(_pumps(pattern))):
        for tail in _TAILS:
            for length in _LENGTHS:
                text = start + unit * (length // len(unit)) + tail
                limit = _FLOOR_SECONDS + len(text) * _SECONDS_PER_CHARACTER
                half = start + unit * (length // len(unit) // 2) + tail
                if _seconds(run, text) > limit and _grows(run, half, text, limit):
                    return f"{start!r} + {unit!r} * {length // len(unit)} + {tail!r}"
    return None


def _seconds(run: Callable[[str], object], text: str) -> float:
    before = time.thread_time()
    run(text)
    return time.thread_time() - before


def _grows(run: Callable[[str], object], half: str, text: str, limit: float) -> bool:
    """Return whether a text takes more than the limit, and three times as long as its half."""
    short = min(_seconds(run, half), _seconds(run, half))
    long = _seconds(run, text)
    return long > limit and long > 3 * short


def _pumps(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Yield what to begin with, and what to repeat."""
    tree = parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)
    for start, unit in _repeated(tree, ""):
        yield start, unit
        yield "", unit
        yield "", start + unit
        if start:
            yield "", start


def _repeated(tree: Any, start: str) -> Iterator[tuple[str, str]]:
    for kind, value in tree:
        if kind in _REPEATS:
            _, most, body = value
            if most > _MANY:
                for unit in _samples(body):
                    yield start, unit
            yield from _repeated(body, start)
        for part in _parts(kind, value):
            yield from _repeated(part, start)
        start += _sample([(kind, value)])


def _parts(kind: Any, value: Any) -> list[Any]:
    if kind is op.BRANCH:
        return list(value[1])
    if kind is op.SUBPATTERN:
        return [value[-1]]
    if kind in (op.ASSERT, op.ASSERT_NOT):
        return [value[1]]
    return [value] if kind is op.ATOMIC_GROUP else []


def _sample(tree: Any) -> str:
    return next(_samples(tree), "")


def _samples(tree: Any) -> Iterator[str]:
    """Yield texts that a part of a pattern matches: one for each of its alternatives."""
    texts = [""]
    for kind, value in tree:
        endings = [text for text in _endings(kind, value) if text]
        texts = [text + ending for text in texts for ending in endings][:12] if endings else texts
    return iter(text for text in texts if text)


def _endings(kind: Any, value: Any) -> list[str]:
    if kind is op.LITERAL:
        return [chr(value)]
    if kind in (op.NOT_LITERAL, op.ANY):
        return [char for char in _OTHERS if char != "\n" and ord(char) != value][:2]
    if kind is op.IN:
        return _members(value)
    if kind in _REPEATS:
        return [text * max(value[0], 1) for text in _samples(value[2])]
    if kind in (op.ASSERT, op.ASSERT_NOT):
        return []
    return [text for part in _parts(kind, value) for text in _samples(part)]


def _members(items: Any) -> list[str]:
    chars: list[str] = []
    for kind, value in items:
        if kind is op.LITERAL:
            chars.append(chr(value))
        elif kind is op.RANGE:
            chars.append(chr(value[0]))
        elif kind is op.CATEGORY:
            chars += _CATEGORIES[value]
    if items[0][0] is op.NEGATE:
        return [char for char in _OTHERS if char not in chars][:3]
    return chars[:6]
