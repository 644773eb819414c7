"""Tables: of items in memory, sorted and paged here, and of lists that the API pages.

Each row is made of elements of the page, so that cells are text, links are reached by keyboard,
and a screen reader has a table with a caption.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from nicegui import ui

from server.console.api.client import PageOf
from server.console.parts.section import Section
from server.console.parts.text import plain, tagged

T = TypeVar("T")
Value: TypeAlias = str | int | float | bool | None
PER_PAGE = 20


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column: its label, the value of an item, and where a value leads, if anywhere.

    Numbers are shown with four digits and sorted as numbers. `cell` makes elements in place of the
    text, for buttons and badges.
    """

    label: str
    value: Callable[[T], Value]
    href: Callable[[T], str] | None = None
    cell: Callable[[T], None] | None = None


class Table(Generic[T]):
    """A table of items in memory: sorted by the buttons of its head, 20 rows a page.

    `pick` is called with the item of a row that is clicked; rows that lead somewhere have a link
    too, as a row is not reached by keyboard.
    """

    def __init__(
        self,
        title: str,
        columns: Sequence[Column[T]],
        items: Sequence[T],
        *,
        pick: Callable[[T], None] | None = None,
        per_page: int = PER_PAGE,
    ) -> None:
        self._title, self._columns, self._items = title, columns, list(items)
        self._pick, self._per_page = pick, per_page
        self._first, self._sorted_by, self._descending = 0, -1, False
        with ui.column().classes("w-full gap-1"):
            with table_of(title):
                self._heads = self._draw_heads()
                self._body = ui.element("tbody")
            self._pager = ui.row().classes("items-center")
            with self._pager:
                self._place = ui.label()
                self._back = turn_button("Previous", lambda: self._turn(-per_page))
                self._forward = turn_button("Next", lambda: self._turn(per_page))
        self.redraw()

    def show(self, items: Sequence[T], *, stay: bool = False) -> None:
        """Replace the items, sorted as before: from the first page, or from this one to `stay`."""
        self._items = list(items)
        last_page = max(len(self._items) - 1, 0) // self._per_page
        self._first = min(self._first, last_page * self._per_page) if stay else 0
        self._sort()

    def redraw(self) -> None:
        """Draw the rows again; the head and the buttons stay, and keep the focus."""
        last = min(self._first + self._per_page, len(self._items))
        self._body.clear()
        with self._body:
            draw_rows(self._columns, self._items[self._first : last], self._pick)
        self._pager.set_visibility(len(self._items) > self._per_page)
        self._place.set_text(f"{self._first + 1} to {last} of {len(self._items)}")
        self._back.set_enabled(self._first > 0)
        self._forward.set_enabled(last < len(self._items))

    def _sort_by(self, index: int) -> None:
        self._descending = index == self._sorted_by and not self._descending
        self._sorted_by, self._first = index, 0
        for head in self._heads:
            head.props.pop("aria-sort", None)
        self._heads[index].props["aria-sort"] = "descending" if self._descending else "ascending"
        self._sort()

    def _sort(self) -> None:
        if self._sorted_by >= 0:
            value = self._columns[self._sorted_by].value
            self._items.sort(key=lambda item: _order(value(item)), reverse=self._descending)
        self.redraw()

    def _turn(self, rows: int) -> None:
        self._first += rows
        self.redraw()

    def _draw_heads(self) -> list[ui.element]:
        heads = []
        with ui.element("thead"), ui.element("tr"):
            for index, column in enumerate(self._columns):
                with ui.element("th").props("scope=col") as head:
                    ui.button(
                        column.label, on_click=lambda index=index: self._sort_by(index)
                    ).props("flat no-caps dense")
                heads.append(head)
        return heads


def table_of(title: str) -> ui.element:
    """Return a table with a caption, in a region that scrolls sideways on a narrow screen."""
    region = ui.element("div").classes("weft-scroll").props("role=region tabindex=0")
    region.props["aria-label"] = title
    with region, ui.element("table").classes("weft-table") as table:
        tagged("caption", title)
    return table


def draw_rows(
    columns: Sequence[Column[T]], items: Sequence[T], pick: Callable[[T], None] | None
) -> None:
    """Draw a row for each item, into the body of the table that is open."""
    for item in items:
        with ui.element("tr") as row:
            if pick is not None:
                row.classes("weft-picked").on("click", lambda item=item: pick(item))
            for column in columns:
                _draw_cell(column, item)


def turn_button(label: str, turn: Callable[[], object]) -> ui.button:
    """Return a button that turns the pages of a table."""
    return ui.button(label, on_click=turn).props("flat no-caps dense")


def _draw_cell(column: Column[T], item: T) -> None:
    if column.cell is not None:
        with ui.element("td"):
            column.cell(item)
        return
    value = column.value(item)
    if column.href is None:
        cell = tagged("td", written(value)).mark("cell")
        if isinstance(value, int | float) and not isinstance(value, bool):
            cell.classes("weft-number")
        return
    with ui.element("td"):
        ui.link(plain(written(value)), column.href(item)).classes("weft-text")


def written(value: Value) -> str:
    """Return a value as a cell shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):  # no exponent for what people count, such as milliseconds
        return f"{value:.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"
    return str(value)


def _order(value: Value) -> tuple[int, float, str]:
    """Return a key that sorts numbers as numbers, text as text, and what is missing last."""
    if value is None:
        return (2, 0.0, "")
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, value.lower())


def cursor_table(
    title: str,
    columns: Sequence[Column[T]],
    fetch: Callable[[str | None], Awaitable[PageOf[T]]],  # type: ignore[type-var]
    nothing: Callable[[], None],
    *,
    pick: Callable[[T], None] | None = None,
) -> Section:
    """Show a list that the API pages, and return its section, which loads the page again.

    `fetch` gives the page at a cursor; `nothing` shows what an empty list says.
    """
    cursors: list[str | None] = [None]

    async def build() -> None:
        page = await fetch(cursors[-1])
        if not page.items and len(cursors) == 1:
            nothing()
            return
        with table_of(title):
            with ui.element("thead"), ui.element("tr"):
                for column in columns:
                    tagged("th", column.label).props("scope=col")
            with ui.element("tbody"):
                draw_rows(columns, page.items, pick)

        async def forward() -> None:
            cursors.append(page.next_cursor)
            await section.load()

        async def back() -> None:
            cursors.pop()
            await section.load()

        if len(cursors) > 1 or page.next_cursor is not None:
            with ui.row().classes("items-center"):
                ui.label(f"Page {len(cursors)}")
                turn_button("Previous", back).set_enabled(len(cursors) > 1)
                turn_button("Next", forward).set_enabled(page.next_cursor is not None)

    section = Section(build)
    return section
