"""Lists by pages: a cursor is where the last page ended, so nothing shifts when rows come or go.

A cursor is opaque to clients: base64 of the list's name and the last row's key. Not a secret, and
not trusted: what it says is only ever compared with.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from registry.errors import CursorInvalid

R = TypeVar("R")
T = TypeVar("T")
Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list; `next_cursor` gives the rest, None when this was the last."""

    items: tuple[T, ...]
    next_cursor: str | None


def cursor_of(of: str, cursor: str | None, *types: type) -> Key | None:
    """Return the key that a cursor of the list `of` ended with: values of these types.

    Raises:
        CursorInvalid: it is not one of this list's.
    """
    if cursor is None:
        return None
    try:
        read = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
    except (ValueError, binascii.Error, RecursionError):
        raise CursorInvalid from None
    if not isinstance(read, list) or [of, *types] != [*read[:1], *map(type, read[1:])]:
        raise CursorInvalid
    if not all(map(_fits_a_column, read[1:])):
        raise CursorInvalid
    return tuple(read[1:])


def _fits_a_column(value: str | int) -> bool:
    return value.isprintable() if isinstance(value, str) else 0 <= value < 2**31


def paged(
    of: str, rows: Sequence[R], limit: int, key: Callable[[R], Key], value: Callable[[R], T]
) -> Page[T]:
    """Make a page of up to `limit` rows out of up to `limit + 1`: one more means there are more."""
    shown, cursor = rows[:limit], None
    if len(rows) > limit:
        text = json.dumps([of, *key(shown[-1])])
        cursor = base64.urlsafe_b64encode(text.encode()).decode()
    return Page(tuple(map(value, shown)), cursor)
