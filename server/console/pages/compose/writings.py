"""The draft as text: the expression that `model` takes, and the `composition` object as JSON.

Either can be edited; the other and the controls follow.
"""

from collections.abc import Mapping

from nicegui import ui

from server.console.pages.compose.draft import DraftInvalid, read_draft, write_draft
from server.console.pages.compose.editor import Editor, Origin

_NO_TEXT = "Weights by pattern, dtype and base are in the JSON only: a text cannot say them."


class Writings:
    """Two fields that write the draft and are written along with it."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor
        self._known = ["", ""]  # what this class wrote: it is no edit
        self._expression = ui.textarea(
            "Expression", on_change=lambda event: self._write_expression(event.value or "")
        )
        self._json = ui.textarea(
            "JSON", on_change=lambda event: self._write_json(event.value or "")
        )
        for field in (self._expression, self._json):
            field.props("autogrow outlined debounce=400 spellcheck=false").classes(
                "w-full font-mono"
            )
        self._expression.mark("expression")
        self._json.mark("json").without_auto_validation()  # or each change would clear its error
        editor.on_draft.append(self._show_json)
        editor.on_explained.append(self._show_expression)

    def open(self, parameters: Mapping[str, str]) -> None:
        """Write what the page's address names: `model`, an expression, or `composition`, JSON."""
        self._expression.value = parameters.get("model", "")
        if not self._expression.value:
            self._json.value = parameters.get("composition", "")

    def _write_expression(self, text: str) -> None:
        if text != self._known[0]:
            self._known[0] = text
            self._editor.write_expression(text)

    def _write_json(self, text: str) -> None:
        if text == self._known[1]:
            return
        self._known[1] = text
        try:
            draft = read_draft(text)
        except DraftInvalid as error:
            self._json.error = str(error)
            return
        self._json.error = None
        self._editor.change(draft, "json")

    def _show_json(self, origin: Origin) -> None:
        if origin == "json":
            return
        draft = self._editor.draft
        self._known[1] = write_draft(draft) if draft.ingredients else ""
        self._json.value, self._json.error = self._known[1], None

    def _show_expression(self, origin: Origin) -> None:
        expression = self._editor.expression
        self._expression.props["hint"] = "" if expression else _NO_TEXT
        if origin != "expression":
            self._known[0] = expression
            self._expression.value = expression
