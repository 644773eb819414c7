"""The filter language of search, and its only parser.

    filter    = { condition }                        all must hold; at most 16
    condition = field operator value { "," value }   with several values, one must hold
    field     = "base" | "created" | "licence" | "lora_dropout" | "module" | "name" | "owner"
              | "peft_version" | "rank" | "status" | "tag"
    operator  = "=" | "!=" | "<" | "<=" | ">" | ">="
    value     = characters other than white space, comma and quotes | '"' anything else '"'

For example `base=llama-3.1-8b-instruct rank<=16 tag=legal,tax created>2026-01-01`. Texts compare
without regard to case. `module=q_proj` matches adapters that update that layer, `name=acme/` a
namespace, `peft_version=0.18` all releases of 0.18. Without a status condition only versions in use
match.
Not covered: SQL (`registry.search.predicates`) and names of bases (`registry.search.finder`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias, get_args

from registry.scanner import Scanner
from registry.search.errors import FilterInvalid

MAX_LENGTH = 1000
MAX_CONDITIONS = 16
MAX_VALUES = 64  # of all conditions
Operator = Literal["=", "!=", "<", "<=", ">", ">="]
Value: TypeAlias = str | int | float | datetime
Field = Literal[
    "base", "created", "licence", "lora_dropout", "module", "name", "owner", "peft_version", "rank",
    "status", "tag",
]  # fmt: skip
FIELDS: tuple[Field, ...] = get_args(Field)
STATUSES = ("admitted", "quarantined", "retired")
_ORDERED = ("created", "lora_dropout", "rank")
_DROPOUT = re.compile(r"0(\.[0-9]{1,9})?|1(\.0{1,9})?")
_NUMBER = re.compile(r"[0-9]{1,9}")
_WORD = re.compile(r"[A-Za-z_]+")
_OPERATOR = re.compile(r"!=|<=|>=|=|<|>")
_VALUE = re.compile(r'[^\s,"]+')
_QUOTED = re.compile(r'"[^"]*"')


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition: `values` are lower-case texts, numbers or moments (created)."""

    field: Field
    operator: Operator
    values: tuple[Value, ...]


def parse_filter(text: str) -> tuple[Condition, ...]:
    """Return the conditions of a filter; an empty one has none.

    Raises:
        FilterInvalid: the error has the position of the mistake and the expected text.
    """
    if len(text) > MAX_LENGTH:
        raise FilterInvalid(text, MAX_LENGTH, f"at most {MAX_LENGTH} characters")
    return _Parser(text).parse()


class _Parser(Scanner):
    def __init__(self, text: str) -> None:
        super().__init__(text, FilterInvalid)
        self._values = 0

    def parse(self) -> tuple[Condition, ...]:
        conditions: list[Condition] = []
        self.skip_space()
        while not self.at_end:
            if len(conditions) == MAX_CONDITIONS:
                raise self.error(f"at most {MAX_CONDITIONS} conditions")
            conditions.append(self._condition())
            before = self.at
            self.skip_space()
            if self.at == before < len(self.text):
                raise self.error("a space, a comma or the end")
        return tuple(conditions)

    def _condition(self) -> Condition:
        field = self._field()
        operator = self._operator(field)
        values = [self._value(field)]
        while self.take_char(","):
            values.append(self._value(field))
        return Condition(field, operator, tuple(values))

    def _field(self) -> Field:
        match = _WORD.match(self.text, self.at)
        for field in FIELDS:
            if match is not None and match.group().lower() == field:
                self.at = match.end()
                return field
        raise self.error(f"a field ({', '.join(FIELDS)})")

    def _operator(self, field: Field) -> Operator:
        self.skip_space()
        allowed: tuple[Operator, ...] = ("=", "!=")
        if field in _ORDERED:
            allowed = (*allowed, "<", "<=", ">", ">=")
        match = _OPERATOR.match(self.text, self.at)
        for operator in allowed:
            if match is not None and match.group() == operator:
                self.at = match.end()
                return operator
        raise self.error(f"one of {' '.join(allowed)}")

    def _value(self, field: Field) -> Value:
        self.skip_space()
        start = self.at
        self._values += 1
        if self._values > MAX_VALUES:
            raise self.error(f"at most {MAX_VALUES} values", start)
        text = (self.take(_QUOTED) or self.take(_VALUE) or "").strip('"')
        if not text or not text.isprintable():
            expected = 'a value, in "quotes" if it has spaces'
            raise self.error(_EXPECTED.get(field, expected), start)
        try:
            return _read(field, text)
        except (ValueError, OverflowError):
            raise self.error(_EXPECTED.get(field, "another value"), start) from None


_EXPECTED: Mapping[str, str] = {
    "lora_dropout": "a number from 0 to 1, such as 0.05",
    "rank": "a whole number",
    "created": "a day (2026-01-31) or a moment (2026-01-31T12:00:00Z)",
    "status": f"one of {', '.join(STATUSES)}",
}


def _read(field: Field, text: str) -> Value:
    """Return a value with its field's type; raise ValueError if it is invalid."""
    if field == "rank":
        if _NUMBER.fullmatch(text) is None:
            raise ValueError(text)
        return int(text)
    if field == "lora_dropout":
        if _DROPOUT.fullmatch(text) is None:
            raise ValueError(text)
        return float(text)
    if field == "created":
        moment = datetime.fromisoformat(text)
        # A day or a moment without a time zone is in UTC, as in weft's output.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    if field == "status" and text.lower() not in STATUSES:
        raise ValueError(text)
    return text.lower()
