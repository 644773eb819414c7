"""The ingredients of a draft: each with its weight by slider and by number, its place, removal."""

from nicegui import ui

from server.console.pages.compose.draft import Ingredient
from server.console.pages.compose.editor import Editor, Origin
from server.console.parts.empty import empty
from server.console.parts.text import tagged

_LOWEST, _HIGHEST, _STEP = -1.0, 2.0, 0.01


class IngredientList:
    """The rows of a draft's ingredients; it follows changes that were made elsewhere."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor
        self._box = ui.column().classes("w-full gap-1")
        editor.on_draft.append(self._follow)
        self._draw()

    def _follow(self, origin: Origin) -> None:
        if origin != "values":
            self._draw()

    def _draw(self) -> None:
        self._box.clear()
        with self._box:
            parts = self._editor.draft.ingredients
            if not parts:
                empty("The composition has no ingredient yet. Add adapters from the search.")
            for position, part in enumerate(parts):
                self._draw_row(position, part)

    def _draw_row(self, position: int, part: Ingredient) -> None:
        editor = self._editor

        def weigh(value: float | None) -> None:
            if value is None or position >= len(editor.draft.ingredients):
                return
            slider.value = number.value = value
            editor.change(editor.draft.weigh(position, float(value)), "values")

        with ui.row().classes("w-full items-center gap-2").mark(f"ingredient {part.reference}"):
            tagged("span", part.reference).classes("grow")
            slider = ui.slider(
                min=_LOWEST, max=_HIGHEST, step=_STEP, value=part.weight,
                on_change=lambda event: weigh(event.value),
            ).classes("w-40 max-md:w-24")  # fmt: skip
            slider.mark(f"weight {part.reference}").props["aria-label"] = (
                f"Weight of {part.reference}"
            )
            number = ui.number(
                value=part.weight, step=0.05, on_change=lambda event: weigh(event.value)
            ).classes("w-20").props("dense")  # fmt: skip
            number.props["aria-label"] = f"Weight of {part.reference} as a number"
            self._draw_buttons(position, part.reference)
        if part.patterns:
            weights = ", ".join(f"{pattern}: {weight:g}" for pattern, weight in part.patterns)
            tagged("p", f"in modules by pattern: {weights}").classes("text-sm")

    def _draw_buttons(self, position: int, reference: str) -> None:
        editor = self._editor
        up = ui.button(
            icon="arrow_upward", on_click=lambda: editor.change(editor.draft.move_up(position))
        ).props("flat dense round")
        up.props["aria-label"] = f"Move {reference} up"
        up.set_enabled(position > 0)
        remove = ui.button(
            icon="close", on_click=lambda: editor.change(editor.draft.remove(position))
        ).props("flat dense round")
        remove.props["aria-label"] = f"Remove {reference}"
