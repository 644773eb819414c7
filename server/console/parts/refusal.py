"""A refusal on a page, in the API's own words, and the same for what a button did."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from server.console.api.errors import Refused
from server.console.parts.text import plain, tagged

_CHARACTERS = 4000


def refusal(error: Refused, retry: Callable[[], Awaitable[None]] | None = None) -> None:
    """Show a refusal, with a button that tries again."""
    with ui.row().classes("weft-refusal w-full items-center").props("role=alert"):
        ui.icon("error_outline").props("aria-hidden=true")
        tagged("pre", str(error), _CHARACTERS)
        if error.code:
            tagged("code", error.code)
        if retry is not None:
            ui.button("Retry", on_click=retry).props("flat no-caps dense")


async def attempt(action: Callable[[], Awaitable[None]]) -> bool:
    """Run what a button does; show its refusal in the API's words, and return whether it worked."""
    try:
        await action()
    except Refused as error:
        ui.notify(
            plain(str(error), _CHARACTERS), type="negative", multi_line=True, timeout=0,
            close_button="Close",
        )  # fmt: skip
        return False
    return True
