"""The grammar of the `model` field, and its only parser.

Covered: the syntax (REFERENCE.md has the EBNF). Not covered: whether names, methods and options
exist; that is checked in `resolve.py`, with the registry and the merge engine.
"""

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

from merge.weights import Patterns
from registry.errors import ReferenceInvalid
from registry.references import DIGEST_START, Reference, parse_reference
from registry.scanner import Scanner, pointer

MAX_LENGTH = 4096
OptionValue: TypeAlias = str | float | int | bool | None

_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Digits before a "*" are a weight.
_DIGEST = re.compile(rf"{DIGEST_START}(?![A-Za-z0-9._/@-]|\s*\*)")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@-]*")
_METHOD = re.compile(r"[a-z][a-z0-9_]*(?=\()")
_OPTION = re.compile(r"[a-z][a-z0-9_]*")
_OPERATOR = re.compile(r"\s+([+-])\s+")  # spaces needed: names may hold "-"
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_QUOTED = re.compile(r'"[^"]*"')
# What word processors and chat programs put in place of quotes, hyphen and minus.
_STRAIGHT = str.maketrans(
    dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019\u201a'", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)
_LOOSE_CALL = re.compile(r"\b([A-Za-z]\w*)\s*(?=\()")
_PATH = re.compile(r"\s*(?:\.{0,2}/|~|\\|[A-Za-z]:[/\\]|hf:)")
_MAX_SUGGESTION = 200
_WHOLE = 1e15  # whole numbers below are exact, and written without an exponent
_CONSTANTS: dict[str, OptionValue] = {"true": True, "false": False, "none": None}


class ExpressionInvalid(ValueError):
    """The `model` field does not parse; `str()` shows the place with a caret.

    `hint` is a sentence that says what to write instead.
    """

    def __init__(self, text: str, position: int, expected: str, hint: str = "") -> None:
        self.text, self.position, self.expected = text, position, expected
        character = repr(text[position]) if position < len(text) else "the end"
        super().__init__(
            f"Expected {expected} at position {position}, found {character}.\n"
            + pointer(text, position)
            + (f"\n{hint}" if hint else "")
        )


@dataclass(frozen=True, slots=True)
class Term:
    """One ingredient as written: its weight (1 when none is given) and what it names."""

    weight: float
    reference: Reference
    patterns: Patterns = ()  # of a `composition` object; the text has none

    def __str__(self) -> str:
        """Return the term as it is written, with every digit of its weight."""
        if self.weight in (1.0, -1.0):
            return f"{'-' if self.weight < 0 else ''}{self.reference}"
        whole = self.weight.is_integer() and abs(self.weight) < _WHOLE
        return f"{int(self.weight) if whole else self.weight}*{self.reference}"


@dataclass(frozen=True, slots=True)
class Expression:
    """A composition as written: `method(terms ; options)`, or the sum that stands for `linear`."""

    method: str
    terms: tuple[Term, ...]
    options: tuple[tuple[str, OptionValue], ...] = ()

    def __str__(self) -> str:
        """Return a text that parses to this expression, without weights by pattern."""
        options = ", ".join(f"{name}={_written(value)}" for name, value in self.options)
        terms = ", ".join(map(str, self.terms))
        return f"{self.method}({terms}{f'; {options}' if options else ''})"


def _written(value: OptionValue) -> str:
    """Return the value of an option as it is written."""
    if isinstance(value, str):
        plain = _WORD.fullmatch(value) is not None and value not in _CONSTANTS
        return value if plain else f'"{value}"'
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def parse_model(text: str) -> Reference | Expression:
    """Return what a `model` field names, apart from the base, whose name is compared before.

    Raises:
        ExpressionInvalid: with the position, what was expected there, and a hint if one helps.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionInvalid(text, MAX_LENGTH, f"at most {MAX_LENGTH} characters")
    try:
        return _Parser(text).parse()
    except ExpressionInvalid as error:
        raise ExpressionInvalid(text, error.position, error.expected, _hint(text)) from error


def _hint(text: str) -> str:
    """Return the sentence that helps with a common mistake, or nothing."""
    if _PATH.match(text):
        return (
            "A folder or a repository is imported first, with "
            "`weft adapters import SOURCE --name NAME`; then write NAME."
        )
    if len(text) > _MAX_SUGGESTION:
        return ""
    straight = text.translate(_STRAIGHT)
    called = _LOOSE_CALL.sub(lambda call: call.group(1).lower(), straight, count=1)
    for candidate in (straight, called, called.lower()):
        if candidate != text and _parses(candidate):
            return f"Did you mean `{candidate.strip()}`?"
    return ""


def _parses(text: str) -> bool:
    try:
        _Parser(text).parse()
    except ExpressionInvalid:
        return False
    return True


class _Parser(Scanner):
    """Recursive descent over one string."""

    def __init__(self, text: str) -> None:
        super().__init__(text, ExpressionInvalid)

    def parse(self) -> Reference | Expression:
        self.skip_space()
        method = self.take(_METHOD)
        result = self._call(method) if method else self._sum()
        self.skip_space()
        if not self.at_end:
            raise self.error("the end" if method else "' + ', ' - ' or the end")
        return result

    def _call(self, method: str) -> Expression:
        self.expect("(")
        terms: list[Term] = []
        while self.peek() not in (";", ")"):
            if terms:
                self.expect(",", "',', ';' or ')'")
            terms.append(self._term(signed=True))
        options = self._options() if self.peek() == ";" else ()
        self.expect(")", "',' or ')'")
        return Expression(method, tuple(terms), options)

    def _options(self) -> tuple[tuple[str, OptionValue], ...]:
        self.expect(";")
        options: dict[str, OptionValue] = {}
        while self.peek() != ")":
            if options:
                self.expect(",", "',' or ')'")
            self.skip_space()
            start = self.at
            name = self.take(_OPTION)
            if name is None:
                raise self.error("an option's name")
            if name in options:
                raise self.error(f"each option once, not {name!r} again", start)
            self.expect("=")
            options[name] = self._value()
        return tuple(options.items())

    def _value(self) -> OptionValue:
        self.skip_space()
        sign = -1 if self.take_char("-") else 1
        number = self.take(_NUMBER)
        if number is not None:
            return sign * (int(number) if number.isdigit() else float(number))
        quoted = self.take(_QUOTED) if sign == 1 else None
        if quoted is not None:
            return quoted[1:-1]
        word = self.take(_WORD) if sign == 1 else None
        if word is None:
            raise self.error('a number, a word, text in "quotes", true, false or none')
        return _CONSTANTS.get(word, word)

    def _sum(self) -> Reference | Expression:
        first = self.at
        terms = [self._term(signed=True)]
        while (operator := _OPERATOR.match(self.text, self.at)) is not None:
            self.at = operator.end()
            term = self._term(signed=False)
            sign = -1.0 if operator.group(1) == "-" else 1.0
            terms.append(Term(sign * term.weight, term.reference))
        bare = len(terms) == 1 and self.text[first : self.at].strip() == str(terms[0].reference)
        return terms[0].reference if bare else Expression("linear", tuple(terms))

    def _term(self, *, signed: bool) -> Term:
        self.skip_space()
        start = self.at
        sign = 1.0
        if signed and self.peek() in ("+", "-"):
            sign = -1.0 if self.text[self.at] == "-" else 1.0
            self.at += 1
        if _DIGEST.match(self.text, self.at) is None and (number := self.take(_NUMBER)):
            weight = float(number)
            if math.isinf(weight):
                raise self.error("a finite weight", start)
            self.expect("*", "'*' after the weight")
            self.skip_space()
            return Term(sign * weight, self._reference())
        return Term(sign, self._reference())

    def _reference(self) -> Reference:
        start = self.at
        token = self.take(_REFERENCE)
        if token is None:
            raise self.error("a name, name@3, name@alias or a digest")
        try:
            return parse_reference(token)
        except ReferenceInvalid as error:
            raise self.error(error.expected, start + error.position) from error
