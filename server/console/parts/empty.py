"""What a list without entries shows: why it is empty, and what to do next."""

from nicegui import ui

from server.console.parts.text import tagged


def empty(why: str, *, do: str | None = None, href: str = "", command: str = "") -> None:
    """Say why there is nothing, and offer the next step: a page to open or a command to run."""
    with ui.column().classes("weft-empty w-full items-center"):
        ui.icon("inbox", size="2rem").props("aria-hidden=true")
        tagged("p", why, 1000)
        if do is not None:
            ui.link(do, href)
        if command:
            tagged("code", command, 1000)
