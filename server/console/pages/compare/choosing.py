"""Choosing the columns: from the models that the server names, or by writing an expression."""

from collections.abc import Awaitable, Callable, Sequence

from nicegui import ui

from server.console.api.models import Model, bases_of
from server.console.pages.compare.columns import MAX_COLUMNS, Column, Columns, add_column
from server.console.parts.empty import empty
from server.console.parts.text import plain, tagged

_COMPLETED = 1000  # names that the page holds for completion


class Chooser:
    """The list of columns, and a field that adds one; `changed` is called with the columns."""

    def __init__(self, columns: Columns, changed: Callable[[Columns], Awaitable[None]]) -> None:
        self.columns, self._changed = columns, changed
        self._list = ui.row().classes("w-full items-center gap-2")
        with ui.row().classes("w-full items-center gap-2"):
            self._field = ui.input(
                "Model", placeholder="base, legal@prod, mix@1 or linear(legal, 0.5*sql)"
            ).classes("grow")
            self._field.mark("model").on("keydown.enter", self._add)
            ui.button("Add column", icon="add", on_click=self._add).props("no-caps outline")
        self._draw()

    def offer(self, models: Sequence[Model]) -> None:
        """Complete what is written in the field from these models, and offer the bases at once."""
        self._field.set_autocomplete([model.id for model in models[:_COMPLETED]])
        for base in bases_of(models):
            ui.button(
                plain(f"Add the base {base}", 80), icon="add",
                on_click=lambda base=base: self.add(Column(base)),
            ).props("flat no-caps dense")  # fmt: skip

    async def add(self, column: Column) -> None:
        """Add a column, if there is room."""
        if len(self.columns) >= MAX_COLUMNS:
            ui.notify(f"There are {MAX_COLUMNS} columns at most. Remove one.", type="warning")
            return
        await self.replace(add_column(self.columns, column))

    async def replace(self, columns: Columns) -> None:
        """Replace the columns."""
        self.columns = columns
        self._draw()
        await self._changed(columns)

    async def _add(self) -> None:
        await self.add(Column(self._field.value.strip()))
        self._field.value = ""

    async def _remove(self, column: Column) -> None:
        await self.replace(tuple(have for have in self.columns if have is not column))

    def _draw(self) -> None:
        self._list.clear()
        with self._list:
            if not self.columns:
                empty("No model is compared yet. Add the base, an adapter or a composition.")
            for column in self.columns:
                self._draw_column(column)

    def _draw_column(self, column: Column) -> None:
        chip = ui.row().classes("items-center gap-0 border rounded px-2")
        with chip.mark(f"column {column.model}"):
            tagged("span", column.name, 80)
            button = ui.button(icon="close", on_click=lambda: self._remove(column))
            button.props("flat dense round").mark(f"remove {column.model}")
            button.props["aria-label"] = plain(f"Remove {column.name}", 80)
