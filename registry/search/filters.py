"""The filter language of search, and its only parser.

    filter    = { condition }                        all of them must hold
    condition = field operator value { "," value }   with several values, one must hold
    field     = "base" | "created" | "licence" | "module" | "name" | "owner" | "rank" | "status"
              | "tag"
    operator  = "=" | "!=" | "<" | "<=" | ">" | ">="
    value     = characters other than white space, comma and quotes | '"' anything else '"'

For example `base=llama-3.1-8b-instruct rank<=16 tag=legal,tax created>2026-01-01`. Texts compare
without regard to case. `module=q_proj` asks for an update of that layer, `name=acme/` for a
namespace. Without a status only versions in use are found.
Not covered: SQL (`registry.search.predicates`) and names of bases (`registry.search.finder`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from registry.search.errors import FilterInvalid

MAX_LENGTH = 1000
Operator = Literal["=", "!=", "<", "<=", ">", ">="]
Value: TypeAlias = str | int | datetime
Field = Literal[
    "base", "created", "licence", "module", "name", "owner", "rank", "status", "tag"
]  # fmt: skip
FIELDS: tuple[Field, ...] = (
    "base", "created", "licence", "module", "name", "owner", "rank", "status", "tag",
)  # fmt: skip
STATUSES = ("admitted", "quarantined", "retired")
_ORDERED = ("rank", "created")
_NUMBER = re.compile(r"[0-9]{1,9}")
_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z_]+")
_OPERATOR = re.compile(r"!=|<=|>=|=|<|>")
_VALUE = re.compile(r'[^\s,"]+')
_QUOTED = re.compile(r'"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: `values` are lower-case texts, numbers (rank) or moments (created)."""

    field: Field
    operator: Operator
    values: tuple[Value, ...]


def parse_filter(text: str) -> tuple[Condition, ...]:
    """Return the conditions of a filter; an empty one has none.

    Raises:
        FilterInvalid: with the position of what does not fit and what was expected there.
    """
    if len(text) > MAX_LENGTH:
        raise FilterInvalid(text, MAX_LENGTH, f"at most {MAX_LENGTH} characters")
    return _Parser(text).parse()


class _Parser:
    """Reads one string from left to right; `self._at` is the only state."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> tuple[Condition, ...]:
        conditions: list[Condition] = []
        self._skip_space()
        while self._at < len(self._text):
            conditions.append(self._condition())
            before = self._at
            self._skip_space()
            if self._at == before < len(self._text):
                raise self._error("a space, a comma or the end")
        return tuple(conditions)

    def _condition(self) -> Condition:
        field = self._field()
        operator = self._operator(field)
        values = [self._value(field)]
        while self._text.startswith(",", self._at):
            self._at += 1
            values.append(self._value(field))
        return Condition(field, operator, tuple(values))

    def _field(self) -> Field:
        match = _WORD.match(self._text, self._at)
        for field in FIELDS:
            if match is not None and match.group().lower() == field:
                self._at = match.end()
                return field
        raise self._error(f"a field ({', '.join(FIELDS)})")

    def _operator(self, field: Field) -> Operator:
        self._skip_space()
        allowed: tuple[Operator, ...] = ("=", "!=")
        if field in _ORDERED:
            allowed = (*allowed, "<", "<=", ">", ">=")
        match = _OPERATOR.match(self._text, self._at)
        for operator in allowed:
            if match is not None and match.group() == operator:
                self._at = match.end()
                return operator
        raise self._error(f"one of {' '.join(allowed)}")

    def _value(self, field: Field) -> Value:
        self._skip_space()
        start = self._at
        match = _QUOTED.match(self._text, start)
        text = match.group(1) if match else ""
        if match is None:
            match = _VALUE.match(self._text, start)
            text = match.group() if match else ""
        if match is None or not text or not text.isprintable():
            raise self._error(_EXPECTED.get(field, 'a value, in "quotes" if it has spaces'))
        self._at = match.end()
        try:
            return _read(field, text)
        except (ValueError, OverflowError):
            expected = _EXPECTED.get(field, "another value")
            raise FilterInvalid(self._text, start, expected) from None

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _error(self, expected: str) -> FilterInvalid:
        return FilterInvalid(self._text, self._at, expected)


_EXPECTED: Mapping[str, str] = {
    "rank": "a whole number",
    "created": "a day (2026-01-31) or a moment (2026-01-31T12:00:00Z)",
    "status": f"one of {', '.join(STATUSES)}",
}


def _read(field: Field, text: str) -> Value:
    """Return a value as its field has it; ValueError when it cannot be one."""
    if field == "rank":
        if _NUMBER.fullmatch(text) is None:
            raise ValueError(text)
        return int(text)
    if field == "created":
        moment = datetime.fromisoformat(text)
        # A day or a moment without a zone is meant in UTC, as weft prints them.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    if field == "status" and text.lower() not in STATUSES:
        raise ValueError(text)
    return text.lower()
