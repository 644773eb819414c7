"""Pagination with cursors. Rows that are added or removed do not shift the following pages.

A cursor is opaque to clients: it is the base64 of the list's name and the key of the last row of
the page. It is neither secret nor trusted, because its key is only used in comparisons.
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
    """A page of a list; `next_cursor` is None on the last page."""

    items: tuple[T, ...]
    next_cursor: str | None


def cursor_at(of: str, key: str | int) -> str:
    """Return the cursor of the list `of` that continues after the row with this key."""
    return base64.urlsafe_b64encode(json.dumps([of, key]).encode()).decode()


def key_of(of: str, cursor: str | None, kind: type[K]) -> K | None:
    """Return the key in a cursor of the list `of`, or None if `cursor` is None.

    Raises:
        CursorInvalid: The cursor does not belong to this list.
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
    """Return a page of `limit` rows; a row beyond `limit` shows that there is a next page."""
    shown = rows[:limit]
    cursor = cursor_at(of, key(shown[-1])) if len(rows) > limit else None
    return Page(tuple(map(value, shown)), cursor)
