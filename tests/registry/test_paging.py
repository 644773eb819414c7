"""Cursors are stable, opaque and not trusted."""

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import CursorInvalid
from registry.paging import Page, key_of, paged
from registry.service import Registry
from tests.registry.conftest import Register


def page(rows: list[int], limit: int) -> Page[int]:
    """Return a page of numbers."""
    return paged("numbers", rows, limit, lambda row: row, lambda row: row)


def test_one_row_more_means_another_page() -> None:
    """A page has a cursor after its last row if, and only if, one more row exists."""
    assert Page((1, 2), None) == page([1, 2], 2)
    made = page([1, 2, 3], 2)
    assert (1, 2) == made.items
    assert 2 == key_of("numbers", made.next_cursor, int)


def encoded(value: object) -> str:
    """Return a text that has the form of a cursor."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "", "x", "====", "é", "\0", "e30=", encoded([]), encoded(["numbers"]), encoded({}),
        encoded(["others", 1]), encoded(["numbers", "1"]), encoded(["numbers", 1.0]),
        encoded(["numbers", True]), encoded(["numbers", None]), encoded(["numbers", 1, 2]),
        encoded(["numbers", -1]), encoded(["numbers", 2**31]), encoded("numbers"),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
)  # fmt: skip
def test_a_key_of_our_making_is_wanted(cursor: str) -> None:
    """A cursor is refused unless it belongs to the list and its key fits into a column."""
    with pytest.raises(CursorInvalid, match="without a cursor"):
        key_of("numbers", cursor, int)


@pytest.mark.parametrize("key", [0, 2**31 - 1])
def test_every_key_of_a_column_is_taken(key: int) -> None:
    """The least and the greatest value of an integer column are valid keys."""
    assert key == key_of("numbers", encoded(["numbers", key]), int)


@given(st.text(max_size=60))
def test_no_text_breaks_it(cursor: str) -> None:
    """Any text is a key or raises CursorInvalid."""
    with suppress(CursorInvalid):
        assert isinstance(key_of("numbers", cursor, int), int)


def test_no_cursor_is_the_beginning() -> None:
    """The key of a missing cursor is None, not an empty text."""
    assert key_of("numbers", None, int) is None


def test_lists_are_whole_and_do_not_shift(registry: Registry, register: Register) -> None:
    """The pages list every adapter once, although others are added before the cursor."""
    for i, name in enumerate(["b", "d", "f", "team/a", "team/c"]):
        register(name, seed=i)
    seen: list[str] = []
    cursor = None
    while True:
        batch = registry.catalogue.adapters(limit=2, cursor=cursor)
        seen += [adapter.name for adapter in batch.items]
        cursor = batch.next_cursor
        if cursor is None:
            break
        register(f"a{len(seen)}", seed=9 + len(seen))  # sorts before the cursor
    assert ["b", "d", "f", "team/a", "team/c"] == seen


def test_versions_and_moves_are_newest_first(registry: Registry, register: Register) -> None:
    """Versions and alias moves are listed newest first."""
    for i in range(3):
        register("legal", seed=i, alias="prod")
    catalogue = registry.catalogue
    first = catalogue.adapter_versions("legal", limit=2)
    rest = catalogue.adapter_versions("legal", limit=2, cursor=first.next_cursor)
    assert [3, 2, 1] == [v.number for v in (*first.items, *rest.items)]
    moves = catalogue.alias_moves("legal", limit=2)
    more = catalogue.alias_moves("legal", limit=2, cursor=moves.next_cursor)
    assert [(2, 3), (1, 2), (None, 1)] == [
        (m.from_number, m.to_number) for m in (*moves.items, *more.items)
    ]
    aliases = [(a.alias, a.number) for a in catalogue.aliases("legal").items]
    assert [("prod", 3)] == aliases
