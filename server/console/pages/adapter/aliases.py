"""Where aliases point and pointed, and moving one."""

from collections.abc import Sequence

from nicegui import ui

from server.console.api.adapters import Alias, AliasMove, alias_moves, aliases, move_alias
from server.console.page import PageContext
from server.console.parts.confirm import confirmed
from server.console.parts.empty import empty
from server.console.parts.refusal import attempt
from server.console.parts.section import Section
from server.console.parts.table import Column, Table, cursor_table
from server.console.parts.text import tagged


def draw_aliases(page: PageContext, name: str) -> None:
    """Draw the aliases of a name, the form that moves one if the key may, and the moves."""
    tagged("h2", "Aliases").classes("text-lg font-bold")

    async def build() -> None:
        found = await aliases(page.api, name)
        if not found:
            empty("No alias points here. A request for the name gets the newest version.")
            return
        Table(
            "Where aliases point",
            [
                Column[Alias]("Alias", lambda alias: alias.alias),
                Column[Alias]("Version", lambda alias: alias.number),
                Column[Alias]("Moved", lambda alias: f"{alias.moved_at:%Y-%m-%d %H:%M}"),
                Column[Alias]("By", lambda alias: alias.moved_by),
            ],
            found,
        )

    now = Section(build)
    form = ui.row().classes("items-end")
    moves = cursor_table(
        "Where aliases pointed",
        [
            Column[AliasMove]("Moved", lambda move: f"{move.moved_at:%Y-%m-%d %H:%M}"),
            Column[AliasMove]("Alias", lambda move: move.alias),
            Column[AliasMove]("From", lambda move: move.from_number),
            Column[AliasMove]("To", lambda move: move.to_number),
            Column[AliasMove]("By", lambda move: move.moved_by),
        ],
        lambda cursor: alias_moves(page.api, name, cursor),
        lambda: empty("No alias was moved yet."),
    )
    if page.who.may_change(name):
        with form:
            _draw_form(page, name, (now, moves))


def _draw_form(page: PageContext, name: str, changed: Sequence[Section]) -> None:
    """Draw the fields and the button that move an alias; reload the sections that it changes."""

    async def move() -> None:
        where, number = (alias.value or "").strip(), int(version.value or 0)
        question = (
            f"Point {name}@{where} to version {number}? Requests for {name}@{where} get it from "
            "the next one on."
        )

        async def act() -> None:
            await move_alias(page.api, name, where, number)

        if await confirmed(question, do="Move") and await attempt(act):
            for section in changed:
                await section.load()

    alias = ui.input("Alias", placeholder="prod").mark("alias")
    version = ui.number("Version", min=1, precision=0).classes("w-28").mark("version")
    ui.button("Point alias to version", on_click=move).props("no-caps").mark("move")
