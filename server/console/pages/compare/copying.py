"""A dialog with a column's request as a command and as a program, to copy."""

from collections.abc import Sequence

from nicegui import ui

from server.console.pages.compare.columns import Column
from server.console.pages.compare.prompts import Message
from server.console.pages.compare.snippets import as_curl, as_python
from server.console.parts.text import tagged

_CHARACTERS = 20_000


async def offer_copy(
    server: str, column: Column, messages: Sequence[Message], max_tokens: int
) -> None:
    """Show how to ask a column's model without the console, until the dialog is closed."""
    with ui.dialog().props("aria-label='Copy the request'") as dialog, ui.card().classes("w-full"):
        tagged("p", "Both read the key from the environment variable WEFT_KEY.")
        for title, write in (("curl", as_curl), ("Python", as_python)):
            text = write(server, column, messages, max_tokens)
            with ui.row().classes("w-full items-center"):
                tagged("h3", title).classes("text-base font-bold grow")
                ui.button(
                    f"Copy as {title}", icon="content_copy",
                    on_click=lambda text=text: ui.clipboard.write(text),
                ).props("flat no-caps dense")  # fmt: skip
            tagged("pre", text, _CHARACTERS).classes("weft-long font-mono").props("tabindex=0")
        ui.button("Close", on_click=lambda: dialog.submit(None)).props("no-caps")
    await dialog
    dialog.delete()
