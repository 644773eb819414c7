"""The log of changes: who changed what, newest first."""

import json
from urllib.parse import urlencode

from nicegui import ui

from server.console.api.keys import Change, audit
from server.console.page import PageContext
from server.console.parts.empty import empty
from server.console.parts.table import Column, cursor_table
from server.console.parts.units import moment

_PATH = "/registry/audit"
_FILTERS = {"actor": "By", "action": "Action", "subject": "What"}


def build(page: PageContext) -> None:
    """Show the changes that the key may see, of one actor, action or subject if asked."""
    asked = {name: page.parameters.get(name, "") for name in _FILTERS}
    _draw_filters(asked)

    def nothing() -> None:
        if any(asked.values()):
            empty("No change is like that.", do="Show all changes", href=_PATH)
        else:
            empty("Nothing was changed yet.")

    cursor_table("Changes", _COLUMNS, lambda at: audit(page.api, at, **asked), nothing)


def _draw_filters(asked: dict[str, str]) -> None:
    def search() -> None:
        filled = {name: field.value.strip() for name, field in fields.items()}
        query = urlencode({name: value for name, value in filled.items() if value})
        ui.navigate.to(f"{_PATH}?{query}" if query else _PATH)

    with ui.row().classes("items-end"):
        fields = {
            name: ui.input(label, value=asked[name]).on("keydown.enter", search)
            for name, label in _FILTERS.items()
        }
        ui.button("Search", on_click=search).props("no-caps")


_COLUMNS = [
    Column[Change]("At", lambda change: moment(change.at)),
    Column[Change]("By", lambda change: change.actor),
    Column[Change]("Action", lambda change: change.action),
    Column[Change]("What", lambda change: change.subject),
    Column[Change]("Detail", lambda change: json.dumps(change.detail, ensure_ascii=False)),
]
