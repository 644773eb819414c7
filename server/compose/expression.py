"""The grammar of the `model` field, and its only parser.

Covered: the syntax (REFERENCE.md has the EBNF). Not covered: whether names, methods and options
exist; that is checked in `resolve.py`, with the registry and the merge engine.
"""

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

from registry.errors import ReferenceInvalid
from registry.references import Reference, parse_reference

MAX_LENGTH = 4096
OptionValue: TypeAlias = str | float | int | bool | None

_SPACE = re.compile(r"\s*")
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DIGEST = re.compile(r"[0-9a-f]{64}(?![A-Za-z0-9._/@-])")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@-]*")
_METHOD = re.compile(r"[a-z][a-z0-9_]*(?=\()")
_OPTION = re.compile(r"[a-z][a-z0-9_]*")
_OPERATOR = re.compile(r"\s+([+-])\s+")  # spaces needed: names may hold "-"
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_QUOTED = re.compile(r'"[^"]*"')
_CONSTANTS: dict[str, OptionValue] = {"true": True, "false": False, "none": None}


class ExpressionInvalid(ValueError):
    """The `model` field does not parse; `str()` shows the place with a caret."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.text, self.position, self.expected = text, position, expected
        found = repr(text[position]) if position < len(text) else "the end"
        # A window keeps a hostile kilobyte out of the message; the caret stays under its place.
        start = max(0, position - 60)
        window = re.sub(r"\s", " ", text[start : position + 20])
        super().__init__(
            f"expected {expected} at position {position}, found {found}\n"
            f"  {window}\n  {' ' * (position - start)}^"
        )


@dataclass(frozen=True, slots=True)
class Term:
    """One ingredient as written: its weight (1 when none is given) and what it names."""

    weight: float
    reference: Reference


@dataclass(frozen=True, slots=True)
class Expression:
    """A composition as written: `method(terms ; options)`, or the sum that stands for `linear`."""

    method: str
    terms: tuple[Term, ...]
    options: tuple[tuple[str, OptionValue], ...] = ()


def parse_model(text: str) -> Reference | Expression:
    """Return what a `model` field names, apart from the base, whose name is compared before.

    Raises:
        ExpressionInvalid: with the position and what was expected there.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionInvalid(text, MAX_LENGTH, f"at most {MAX_LENGTH} characters")
    return _Parser(text).parse()


class _Parser:
    """Recursive descent over one string; `self._at` is the only state."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> Reference | Expression:
        self._skip_space()
        method = self._take(_METHOD)
        result = self._call(method) if method else self._sum()
        self._skip_space()
        if self._at < len(self._text):
            raise self._error("the end" if method else "' + ', ' - ' or the end")
        return result

    def _call(self, method: str) -> Expression:
        self._expect("(")
        terms: list[Term] = []
        while self._peek() not in (";", ")"):
            if terms:
                self._expect(",", "',', ';' or ')'")
            terms.append(self._term(signed=True))
        options = self._options() if self._peek() == ";" else ()
        self._expect(")", "',' or ')'")
        return Expression(method, tuple(terms), options)

    def _options(self) -> tuple[tuple[str, OptionValue], ...]:
        self._expect(";")
        options: dict[str, OptionValue] = {}
        while self._peek() != ")":
            if options:
                self._expect(",", "',' or ')'")
            self._skip_space()
            start = self._at
            name = self._take(_OPTION)
            if name is None:
                raise self._error("an option's name")
            if name in options:
                raise ExpressionInvalid(self._text, start, f"each option once, not {name!r} again")
            self._expect("=")
            options[name] = self._value()
        return tuple(options.items())

    def _value(self) -> OptionValue:
        self._skip_space()
        sign = -1 if self._take_char("-") else 1
        number = self._take(_NUMBER)
        if number is not None:
            return sign * (int(number) if number.isdigit() else float(number))
        quoted = self._take(_QUOTED) if sign == 1 else None
        if quoted is not None:
            return quoted[1:-1]
        word = self._take(_WORD) if sign == 1 else None
        if word is None:
            raise self._error('a number, a word, text in "quotes", true, false or none')
        return _CONSTANTS.get(word, word)

    def _sum(self) -> Reference | Expression:
        first = self._at
        terms = [self._term(signed=True)]
        while (operator := _OPERATOR.match(self._text, self._at)) is not None:
            self._at = operator.end()
            term = self._term(signed=False)
            sign = -1.0 if operator.group(1) == "-" else 1.0
            terms.append(Term(sign * term.weight, term.reference))
        bare = len(terms) == 1 and self._text[first : self._at].strip() == str(terms[0].reference)
        return terms[0].reference if bare else Expression("linear", tuple(terms))

    def _term(self, *, signed: bool) -> Term:
        self._skip_space()
        start = self._at
        sign = 1.0
        if signed and self._peek() in ("+", "-"):
            sign = -1.0 if self._text[self._at] == "-" else 1.0
            self._at += 1
        if _DIGEST.match(self._text, self._at) is None and (number := self._take(_NUMBER)):
            weight = float(number)
            if math.isinf(weight):
                raise ExpressionInvalid(self._text, start, "a finite weight")
            self._expect("*", "'*' after the weight")
            self._skip_space()
            return Term(sign * weight, self._reference())
        return Term(sign, self._reference())

    def _reference(self) -> Reference:
        start = self._at
        token = self._take(_REFERENCE)
        if token is None:
            raise self._error("a name, name@3, name@alias or a digest")
        try:
            return parse_reference(token)
        except ReferenceInvalid as error:
            raise ExpressionInvalid(self._text, start + error.position, error.expected) from error

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _peek(self) -> str:
        self._skip_space()
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        return match.group()

    def _take_char(self, char: str) -> bool:
        found = self._text.startswith(char, self._at)
        self._at += found
        return found

    def _expect(self, char: str, expected: str | None = None) -> None:
        self._skip_space()
        if not self._take_char(char):
            raise self._error(expected or repr(char))

    def _error(self, expected: str) -> ExpressionInvalid:
        return ExpressionInvalid(self._text, self._at, expected)
