"""Garbage: files that nothing refers to, and their removal."""

from nicegui import ui

from server.console.api.files import Garbage, collect, garbage
from server.console.page import PageContext
from server.console.parts.confirm import confirmed
from server.console.parts.empty import empty
from server.console.parts.refusal import attempt
from server.console.parts.section import Section
from server.console.parts.table import Column, cursor_table
from server.console.parts.units import size

_PATH = "/registry/garbage"
_GRACE_DAYS = "7"
_DAY_SECONDS = 86400.0


def build(page: PageContext) -> None:
    """Show what can be removed, and remove it if asked."""
    days = page.parameters.get("days", _GRACE_DAYS)
    with ui.row().classes("items-end"):
        field = ui.input("Keep what was used within, days", value=days).classes("w-64")
        ui.button("List", on_click=lambda: ui.navigate.to(f"{_PATH}?days={field.value}")).props(
            "outline no-caps"
        )
        buttons = ui.row()
    listed = cursor_table(
        "Files that can be removed", _COLUMNS, lambda at: garbage(page.api, days, at),
        lambda: empty("There is no garbage: every file is referred to, or was used lately."),
    )  # fmt: skip
    if page.who.operates:
        with buttons:
            _draw_removal(page, days, listed)


def _draw_removal(page: PageContext, days: str, listed: Section) -> None:
    async def ask() -> None:
        question = (
            f"Remove every file that nothing refers to and that was not used for {days} days, "
            "and the rows that are past their retention?"
        )
        if await confirmed(question, do="Remove them"):
            await attempt(remove)

    async def remove() -> None:
        done = await collect(page.api, days)
        ui.notify(
            f"Removed {size(done.bytes_removed)}, {done.rows_removed:,} rows and "
            f"{done.job_folders_removed:,} folders of jobs."
        )
        await listed.load()

    ui.button("Remove the garbage", on_click=ask).props("no-caps")


_COLUMNS = [
    Column[Garbage]("Store", lambda item: item.store),
    Column[Garbage]("Digest", lambda item: item.digest),
    Column[Garbage]("Size", lambda item: size(item.bytes)),
    Column[Garbage]("Unused for, days", lambda item: item.idle_seconds / _DAY_SECONDS),
    Column[Garbage]("Why", lambda item: item.reason),
]
