"""The page of all adapters, put together: fields, table, map, selection.

Without a question the table lists what the map of texts has, which is every adapter with a text
embedding: all, but for those that an upgrade left behind. A text, a likeness or a filter asks the
API's search.
"""

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

from nicegui import ui

from server.console.addresses import adapter_page
from server.console.api.map import AdapterMap, By, adapter_map
from server.console.api.search import MOST_HITS, NEAR_DUPLICATE, search
from server.console.page import PageContext
from server.console.pages.adapters.fields import Fields
from server.console.pages.adapters.map import AdapterChart
from server.console.pages.adapters.rows import COLOURED_BY, Colour, Row, row_of, rows_of
from server.console.pages.adapters.selection import Selection
from server.console.parts.empty import empty
from server.console.parts.section import Section
from server.console.parts.table import Column, Table

_KINDS: tuple[By, ...] = ("text", "weights", "behaviour")


def build(page: PageContext) -> None:
    """Draw the page of all adapters."""
    _Adapters(page)


class _Adapters:
    """One showing of the page."""

    def __init__(self, page: PageContext) -> None:
        self._page = page
        self._maps: dict[By, asyncio.Task[AdapterMap]] = {}
        self._table: Table[Row] | None = None
        self._chart: AdapterChart | None = None
        self._fields = Fields(page.parameters, self._search)
        self._selection = Selection(self._redraw)
        with ui.element("div").classes("w-full flex flex-row gap-6 max-lg:flex-col"):
            with ui.element("div").classes("flex-[3] min-w-0 w-full"):
                self._listing = Section(self._build_table)
            with ui.element("div").classes("flex-[2] min-w-0 w-full"):
                self._draw_map_fields()
                self._map = Section(self._build_map)

    def _draw_map_fields(self) -> None:
        with ui.row().classes("w-full items-center"):
            self._by = ui.select(
                list(_KINDS), value=_KINDS[0], label="Map by", on_change=self._load_map
            ).classes("w-32")
            self._colour = ui.select(
                list(COLOURED_BY), value=COLOURED_BY[0], label="Colour by",
                on_change=self._load_map,
            ).classes("w-32")  # fmt: skip

    async def _load_map(self) -> None:
        await self._map.load()

    async def _search(self) -> None:
        await self._listing.load()

    def _redraw(self) -> None:
        if self._table is not None:
            self._table.redraw()

    async def _points(self, by: By) -> AdapterMap:
        """Return a map; the table and the chart share the answer."""
        task = self._maps.get(by)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._maps[by] = asyncio.create_task(adapter_map(self._page.api, by))
        return await asyncio.shield(task)

    async def _rows(self) -> list[Row]:
        filters, by = self._fields.filters, self._fields.by
        if not filters.asks:
            return rows_of(await self._points("text"))
        hits = await search(
            self._page.api, text=filters.text, like=filters.like, by=by,
            filter_text=filters.filter_text,
        )  # fmt: skip
        scored = bool(filters.text or filters.like)
        return [row_of(hit, scored=scored) for hit in hits]

    async def _build_table(self) -> None:
        rows = await self._rows()
        asks = self._fields.filters.asks
        if not rows:
            self._draw_nothing(asks=asks)
            return
        if asks and len(rows) == MOST_HITS:
            ui.label(f"These are the first {MOST_HITS}. Narrow them by a filter.")
        self._table = Table("Adapters", self._columns(rows), rows, pick=self._mark)

    def _draw_nothing(self, *, asks: bool) -> None:
        if asks:
            empty("No adapter matches. Change the search, or clear it.", do="Show all", href="/")
        elif self._page.who.has("publish"):
            empty("There is no adapter yet. Import one:", command="weft adapters import FOLDER")
        else:
            empty("Your key cannot see any adapter. Ask an admin of the server to publish one.")

    def _columns(self, rows: Sequence[Row]) -> list[Column[Row]]:
        columns = [
            Column[Row]("Pick", lambda row: row.name in self._selection, cell=self._draw_pick),
            Column[Row]("Name", lambda row: row.name, href=lambda row: adapter_page(row.name)),
            Column[Row]("Version", lambda row: row.number),
            Column[Row]("Tags", lambda row: ", ".join(row.tags)),
            Column[Row]("Rank", lambda row: row.rank),
            Column[Row]("Base", lambda row: row.base),
            Column[Row]("Owner", lambda row: row.owner),
            Column[Row]("Status", lambda row: row.status),
            Column[Row]("Like it", lambda _: None, cell=self._draw_like),
        ]
        if rows[0].score is not None:
            columns.insert(2, Column[Row]("Score", lambda row: row.score, cell=self._draw_score))
        return columns

    def _draw_pick(self, row: Row) -> None:
        box = ui.checkbox(
            value=row.name in self._selection,
            on_change=lambda event: self._selection.set(row.name, picked=event.value),
        )
        box.props("dense").props["aria-label"] = f"Pick {row.name}"

    def _draw_like(self, row: Row) -> None:
        ui.link("similar", f"/?like={quote(row.name)}").props["aria-label"] = (
            f"Adapters like {row.name}"
        )

    def _draw_score(self, row: Row) -> None:
        filters, by = self._fields.filters, self._fields.by
        score = row.score or 0.0
        near = bool(filters.like) and by == "weights" and score > NEAR_DUPLICATE
        ui.label(f"{score:.3f}" + (" near-duplicate" if near else ""))

    def _mark(self, row: Row) -> None:
        if self._chart is not None:
            self._chart.mark(row.name)

    async def _build_map(self) -> None:
        by: By = self._by.value or _KINDS[0]
        colour: Colour = self._colour.value or COLOURED_BY[0]
        points = await self._points(by)
        self._fields.offer(points.legend)
        if points.left_out:
            ui.label(f"{points.left_out} adapters have no embedding of {by} and are not shown.")
        if not points.name:
            empty(f"No adapter has an embedding by {by} yet.", command="weft db embed")
            return
        self._chart = AdapterChart(
            points, rows_of(points), colour, pick=self._selection.add,
            show=lambda name: ui.navigate.to(adapter_page(name)),
        )  # fmt: skip
