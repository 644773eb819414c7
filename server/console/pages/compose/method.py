"""The method of a draft and its options, each with its meaning, from the server's own list."""

from collections.abc import Callable, Sequence

from nicegui import ui

from server.console.api.composing import Method, MethodOption
from server.console.pages.compose.draft import OptionValue
from server.console.pages.compose.editor import Editor, Origin
from server.console.parts.text import plain, tagged

_FIRST = ("rank", "scale", "equalise")  # what most methods have, and most drafts set


class MethodForm:
    """The choice of a method and the fields of its options; it follows the draft."""

    def __init__(self, editor: Editor, methods: Sequence[Method]) -> None:
        self._editor = editor
        self._methods = {method.name: method for method in methods}
        names = {name: plain(f"{name}: {m.title}", 120) for name, m in self._methods.items()}
        self._choice = ui.select(
            names, label="Method", with_input=True, on_change=lambda event: self._use(event.value)
        ).classes("w-full")
        self._box = ui.column().classes("w-full gap-2")
        editor.on_draft.append(self._follow)
        self._draw()

    def _follow(self, origin: Origin) -> None:
        if origin != "values":
            self._draw()

    def _use(self, name: str | None) -> None:
        if name is None or name == self._editor.draft.method:
            return
        options = frozenset(option.name for option in self._methods[name].options)
        self._editor.change(self._editor.draft.use(name, options))

    def _draw(self) -> None:
        self._box.clear()
        method = self._methods.get(self._editor.draft.method)
        self._choice.value = None if method is None else method.name
        if method is None:
            return
        with self._box:
            tagged("p", f"{method.title} ({method.source})", 1000)
            if method.weights == "relative":
                tagged("p", "Weights are relative: the method normalises them.")
            first = [option for option in method.options if option.name in _FIRST]
            for option in (*first, *(o for o in method.options if o.name not in _FIRST)):
                self._draw_option(option)

    def _draw_option(self, option: MethodOption) -> None:
        values = dict(self._editor.draft.options)
        value = values.get(option.name, option.default)
        with ui.column().classes("w-full gap-0"):
            field = _field(option, value, lambda new: self._choose(option, new))
            field.mark(f"option {option.name}").classes("w-full")
            meaning = option.meaning.rstrip(".")
            tagged("p", f"{meaning}. It takes {option.accepts}.", 1000).classes("text-sm")

    def _choose(self, option: MethodOption, value: OptionValue) -> None:
        editor = self._editor
        editor.change(editor.draft.choose(option.name, value, option.default), "values")


def _field(
    option: MethodOption, value: OptionValue, choose: Callable[[OptionValue], None]
) -> ui.element:
    if option.type == "boolean":
        return ui.switch(option.name, value=value is True, on_change=lambda e: choose(e.value))
    if option.type == "choice":
        texts = dict.fromkeys((*option.choices, *option.words, shown(value)))
        return ui.select(
            list(texts), label=option.name, value=shown(value),
            on_change=lambda e: choose(read_option(option, e.value)),
        )  # fmt: skip
    return ui.input(
        option.name, value=shown(value), autocomplete=option.words,
        on_change=lambda e: choose(read_option(option, e.value or "")),
    ).props("debounce=300")  # fmt: skip


def shown(value: OptionValue) -> str:
    """Return the value of an option as a field shows it."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def read_option(option: MethodOption, text: str) -> OptionValue:
    """Return the value that a field's text means: a word of the option, a number, or the text.

    Text that is neither stays text, and the server says what the option takes. No text is the
    default.
    """
    text = text.strip()
    if not text:
        return option.default
    if text == "none" and "none" in option.words:
        return None
    if option.type in ("integer", "number") and text not in option.words:
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    return text
