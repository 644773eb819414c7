"""The page Compose, put together: what is asked of the server, and when."""

from urllib.parse import urlencode

from nicegui import ui

from server.console.api.composing import methods, preview
from server.console.api.errors import Refused
from server.console.page import Page, PageContext
from server.console.pages.compose.building import Builder
from server.console.pages.compose.draft import document_of
from server.console.pages.compose.editor import Editor, address_of
from server.console.pages.compose.explained import show_explanation
from server.console.pages.compose.ingredients import IngredientList
from server.console.pages.compose.method import MethodForm
from server.console.pages.compose.picking import picker
from server.console.pages.compose.previewed import show_preview
from server.console.pages.compose.saving import Saver
from server.console.pages.compose.writings import Writings
from server.console.parts.pause import AfterPause
from server.console.parts.refusal import attempt
from server.console.parts.section import Section
from server.console.parts.text import tagged

_PATH = "/compose"
_EXPLAIN_SECONDS, _PREVIEW_SECONDS = 0.3, 1.0


class _Composing:
    """One showing of the page."""

    def __init__(self, page: PageContext) -> None:
        self._page, self._editor = page, Editor(page.api)
        with ui.element("div").classes("w-full grid md:grid-cols-2 gap-6"):
            with ui.column().classes("w-full gap-3"):
                self._draw_controls()
            with ui.column().classes("w-full gap-3"):
                self._draw_results()
        self._preview = AfterPause(self._previewed.load, _PREVIEW_SECONDS)
        self._writings.open(self._page.parameters)  # its explanation comes as the page is shown
        self._editor.on_written.append(AfterPause(self._explained.load, _EXPLAIN_SECONDS))

    def _draw_controls(self) -> None:
        editor = self._editor
        tagged("h2", "Ingredients").classes("text-lg")
        IngredientList(editor)
        picker(self._page.api, lambda reference: editor.change(editor.draft.add(reference)))

        async def form() -> None:
            MethodForm(editor, await methods(self._page.api))

        tagged("h2", "Method").classes("text-lg")
        Section(form)

    def _draw_results(self) -> None:
        tagged("h2", "As text").classes("text-lg")
        self._writings = Writings(self._editor)
        self._draw_actions()
        tagged("h2", "Explanation").classes("text-lg")
        self._explained = Section(self._explain)
        self._previewed = Section(self._look)

    def _draw_actions(self) -> None:
        who, editor = self._page.who, self._editor
        self._saver: Saver | None = None
        with ui.row().classes("w-full items-center gap-3"):
            if who.has("publish"):
                self._saver = Saver(self._page.api, who, editor.explained)
            if who.has("chat"):
                ui.button(
                    "Build", icon="construction", on_click=lambda: attempt(self._build)
                ).props("no-caps outline")
        self._builder = Builder(self._page.api)

    async def _explain(self) -> None:
        explanation = await self._editor.explain()
        if explanation is None:
            tagged("p", "Add an ingredient, or write an expression: its explanation appears here.")
        else:
            show_explanation(explanation)
            if self._saver is not None:
                self._saver.suggest(explanation)
        ui.navigate.history.replace(f"{_PATH}?{urlencode(address_of(self._editor))}")
        self._preview()

    async def _look(self) -> None:
        explanation = self._editor.explanation
        if explanation is not None and explanation.kind == "merge":
            show_preview(await preview(self._page.api, document_of(self._editor.draft)))

    async def _build(self) -> None:
        explanation = await self._editor.explained()
        if explanation is None or explanation.kind != "merge":
            raise Refused("There is no composition to build yet. Add ingredients.")
        await self._builder.build(self._editor.draft, explanation)
        await self._explained.load()


def build(page: PageContext) -> None:
    """Show the page."""
    _Composing(page)


COMPOSE = Page(_PATH, "Compose", build, menu="Compose")
