"""A question before what cannot be undone, or what requests feel at once."""

from nicegui import ui

from server.console.parts.text import tagged


async def confirmed(question: str, *, do: str) -> bool:
    """Ask in a dialog, and return whether the button `do` was chosen."""
    with ui.dialog().props("aria-label=Confirm") as dialog, ui.card():
        tagged("p", question, 1000)
        with ui.row():
            ui.button("Cancel", on_click=lambda: dialog.submit(None)).props("flat no-caps")
            ui.button(do, on_click=lambda: dialog.submit("do")).props("no-caps")
    answer: str | None = await dialog
    dialog.delete()
    return answer == "do"
