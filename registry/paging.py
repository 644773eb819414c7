"""Lists by pages: a cursor is where the last page ended, so nothing shifts when rows come or go.

A cursor is opaque to clients: base64 of the list's name and the last row's key. It is neither a
secret nor trusted: its key is only compared with.
"""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from registry.errors import CursorInvalid

MAX_PAGE = 100  # items on a page of the admin API

R = TypeVar("R")
T = TypeVar("T")
K = TypeVar("K", str, int)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list; `next_cursor` gives the rest, None when this was the last."""

    items: tuple[T, ...]
    next_cursor: str | None


def cursor_at(of: str, key: str | int) -> str:
    """Return the cursor of the list `of` behind the row that has this key."""
    return base64.urlsafe_b64encode(json.dumps([of, key]).encode()).decode()


def key_of(of: str, cursor: str | None, kind: type[K]) -> K | None:
    """Return the key that a cursor of the list `of` stands behind, or None for no cursor.

    Raises:
        CursorInvalid: it is not one of this list's.
    """
    if cursor is None:
        return None
    try:
        name, key = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise CursorInvalid from None
    if name != of or type(key) is not kind or not _fits_a_column(key):
        raise CursorInvalid
    return key


def _fits_a_column(value: str | int) -> bool:
    return value.isprintable() if isinstance(value, str) else 0 <= value < 2**31


def paged(
    of: str, rows: Sequence[R], limit: int, key: Callable[[R], str | int], value: Callable[[R], T]
) -> Page[T]:
    """Make a page of up to `limit` rows out of up to `limit + 1`: one more means there are more."""
    shown = rows[:limit]
    cursor = cursor_at(of, key(shown[-1])) if len(rows) > limit else None
    return Page(tuple(map(value, shown)), cursor)
