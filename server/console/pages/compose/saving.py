"""Saving a draft under a name, publishing what was saved, and the way to the comparison."""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from nicegui import ui

from server.console.api.client import Api
from server.console.api.composing import Explanation, Saved, publish, save
from server.console.api.errors import Refused
from server.console.api.identity import Identity
from server.console.pages.compare.columns import columns_of, parameters_of
from server.console.parts.confirm import confirmed
from server.console.parts.refusal import attempt
from server.console.parts.text import tagged

_MAX_NAME = 60


def suggested_name(who: Identity, explanation: Explanation) -> str:
    """Return a name for a composition: its ingredients' last words, in the key's namespace."""
    names = (part.reference.partition("@")[0] for part in explanation.ingredients)
    words = (name.rpartition("/")[2] for name in names)
    name = re.sub(r"[^a-z0-9._-]", "", "-".join(words))[:_MAX_NAME] or "composition"
    return name if who.namespace is None else f"{who.namespace}/{name}"


class Saver:
    """Saves the explained draft, and then offers to publish and to compare it."""

    def __init__(
        self, api: Api, who: Identity, explained: Callable[[], Awaitable[Explanation | None]]
    ) -> None:
        self._api, self._who, self._explained = api, who, explained
        self._name = ui.input("Name of the composition").classes("w-64")
        ui.button("Save", icon="save", on_click=self._save).props("no-caps")
        self._suggested = ""
        self._box = ui.column().classes("w-full")

    def suggest(self, explanation: Explanation) -> None:
        """Fill in a name, unless the reader has written one."""
        if self._name.value == self._suggested:
            self._suggested = self._name.value = suggested_name(self._who, explanation)

    async def _save(self) -> None:
        await attempt(self._try)

    async def _try(self) -> None:
        explanation = await self._explained()
        if explanation is None or explanation.composition is None:
            raise Refused("There is no composition to save yet. Add ingredients.")
        self.suggest(explanation)
        self._show(await save(self._api, self._name.value, explanation.composition), explanation)

    def _show(self, saved: Saved, explanation: Explanation) -> None:
        self._box.clear()
        with self._box:
            with ui.row().classes("items-center gap-3"):
                tagged("span", f"Saved as {saved.reference}.")
                ui.link("Compare it with its ingredients", _comparison(saved, explanation))
            _draw_publishing(self._api, saved)


def _comparison(saved: Saved, explanation: Explanation) -> str:
    models = [saved.reference, *(part.reference for part in explanation.ingredients)]
    return f"/compare?{urlencode(parameters_of(columns_of(models)))}"


def _draw_publishing(api: Api, saved: Saved) -> None:
    with ui.row().classes("items-center gap-3"):
        adapter = ui.input("Adapter to publish it as", value=saved.name).classes("w-64")
        adapter.mark("publish as")
        alias = ui.input("Alias (may be empty)").classes("w-40")

        async def act() -> None:
            made = await publish(api, saved, adapter.value, alias.value.strip() or None)
            ui.notify(f"Published as {made.reference}.", type="positive")

        async def ask() -> None:
            question = (
                f"Merge {saved.reference} and register the result as a version of the adapter "
                f"{adapter.value}?"
            )
            if await confirmed(question, do="Publish"):
                await attempt(act)

        ui.button("Publish", icon="publish", on_click=ask).props("no-caps outline")
