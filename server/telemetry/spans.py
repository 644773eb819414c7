"""Spans of a request: resolve, merge, load, generate. Without a collector they cost nothing.

Imports no OpenTelemetry, which is an extra: `export.py` does.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeAlias

Attributes: TypeAlias = Mapping[str, str | int | float]


class Span(Protocol):
    """A span that has begun."""

    def add(self, attributes: Attributes) -> None:
        """Add attributes."""
        ...


class Tracer(Protocol):
    """Makes spans."""

    def span(self, name: str, parent: str | None) -> AbstractContextManager[Span]:
        """Begin a span, below this task's or that of a `traceparent` header; end it on exit."""
        ...


class _NoSpan:
    """Takes the place of a span without a collector."""

    def add(self, attributes: Attributes) -> None:
        """Do nothing."""


_NO_SPAN: AbstractContextManager[Span] = nullcontext(_NoSpan())
_tracer: Tracer | None = None


def install(tracer: Tracer | None) -> None:
    """Make spans with `tracer` from now on; None: make none."""
    global _tracer  # noqa: PLW0603 - one for the process, like the root logger
    _tracer = tracer


def span(name: str, *, parent: str | None = None) -> AbstractContextManager[Span]:
    """Return a span that lasts as long as its `with` block."""
    return _NO_SPAN if _tracer is None else _tracer.span(name, parent)
