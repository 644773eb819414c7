"""Prompts to try with one click: the examples of the adapters that are compared."""

import asyncio
from collections.abc import Callable

from nicegui import ui

from server.console.api.adapters import examples
from server.console.api.client import Api
from server.console.api.composing import explain
from server.console.api.errors import Refused
from server.console.pages.compare.columns import Columns
from server.console.parts.text import plain

_SUGGESTED, _OF_EACH = 6, 2
_GENERAL = ("Introduce yourself in one sentence.", "What is the capital of Australia?")


async def suggest_prompts(api: Api, columns: Columns, use: Callable[[str], None]) -> None:
    """Show a button for each suggestion; `use` gets the prompt that was chosen."""
    found = await asyncio.gather(*(_adapters_in(api, column.model) for column in columns))
    names = list(dict.fromkeys(name for names in found for name in names))[:_SUGGESTED]
    known = await asyncio.gather(*(examples(api, name) for name in names))
    prompts = [prompt for of_one in known for prompt in of_one[:_OF_EACH]]
    with ui.row().classes("w-full gap-2"):
        for prompt in (prompts or list(_GENERAL))[:_SUGGESTED]:
            ui.button(plain(prompt, 60), on_click=lambda prompt=prompt: use(prompt)).props(
                "outline no-caps dense"
            )


async def _adapters_in(api: Api, model: str) -> list[str]:
    """Return the names of the adapters in a model; none of what the server does not know."""
    try:
        explanation = await explain(api, model)
    except Refused as error:
        if error.unanswered:
            raise
        return []
    return [part.reference.partition("@")[0] for part in explanation.ingredients]
