"""Adapters found as one types, each with a button that adds it to the draft."""

from collections.abc import Callable

from nicegui import ui

from server.console.api.client import Api
from server.console.api.search import search
from server.console.parts.empty import empty
from server.console.parts.section import Section
from server.console.parts.text import tagged

_HITS = 8


def picker(api: Api, add: Callable[[str], None]) -> None:
    """Show a field of search and what it finds; `add` gets the reference that was picked."""
    text = ui.input("Search adapters", placeholder="by name, card, tags or examples")
    text.props("debounce=300 clearable").classes("w-full")

    async def results() -> None:
        hits = await search(api, text=text.value or "", limit=_HITS)
        if not hits:
            empty("No adapter was found.", do="See all adapters", href="/")
        for hit in hits:
            with ui.row().classes("w-full items-center no-wrap gap-2"):
                button = ui.button(icon="add", on_click=lambda hit=hit: add(hit.reference))
                button.props("flat dense round").mark(f"add {hit.reference}").props[
                    "aria-label"
                ] = f"Add {hit.reference}"
                tagged("span", hit.reference)
                tagged("span", ", ".join(hit.tags), 80).classes("text-sm")

    found = Section(results)
    text.on_value_change(found.load)
