"""The limits of a key: what it may use in a minute, told and replaced."""

from nicegui import ui

from server.console.api.client import Api
from server.console.api.keys import Key, Limits, set_limits
from server.console.parts.refusal import attempt
from server.console.parts.text import tagged

_WORDS = {
    "requests": "requests", "tokens": "tokens", "compositions": "new compositions",
    "build_seconds": "seconds of builds",
}  # fmt: skip


def limits_text(limits: Limits) -> str:
    """Return what a key may use in a minute, in words."""
    own = {name: value for name, value in limits.model_dump().items() if value is not None}
    told = ", ".join(f"{value:,.12g} {_WORDS[name]}" for name, value in own.items())
    return told or "the server's"


async def changed_limits(api: Api, key: Key) -> bool:
    """Show the limits of a key in a dialog; return whether they were replaced."""
    with ui.dialog().props("aria-label=Limits") as dialog, ui.card():
        tagged("p", f"What the key {key.name} may use in a minute.")
        tagged("p", "An empty field leaves a limit to the server's settings; 0 allows nothing.")
        fields = {
            name: ui.number(words.capitalize(), value=getattr(key.limits, name), min=0).mark(name)
            for name, words in _WORDS.items()
        }

        async def replace() -> None:
            written = {name: field.value for name, field in fields.items()}
            await set_limits(api, key.name, Limits.model_validate(written))
            dialog.submit("replaced")

        with ui.row():
            ui.button("Cancel", on_click=lambda: dialog.submit(None)).props("flat no-caps")
            ui.button("Set limits", on_click=lambda: attempt(replace)).props("no-caps")
    answer: str | None = await dialog
    dialog.delete()
    return answer == "replaced"
