"""The field of a job's pool: every adapter, those of a filter, or those that are named."""

from nicegui import ui

_EVERY, _FILTER, _NAMED = "Every adapter", "A filter", "Named adapters"
_HINTS = {
    _FILTER: "a filter of searches, such as tag=legal rank<=16",
    _NAMED: "references with commas between them, such as team/legal@3, sql@prod",
}


class PoolField:
    """Asks for the adapters that a job may choose from.

    `named` are references to begin with, such as those that were picked on a map.
    """

    def __init__(self, named: str = "") -> None:
        self._kind = ui.toggle(
            [_EVERY, _FILTER, _NAMED], value=_NAMED if named else _EVERY, on_change=self._show
        )
        self._kind.props("no-caps aria-label=Pool").mark("pool-kind")
        self._text = ui.input("Pool", value=named).classes("w-full").mark("pool")
        self._hint = ui.label("").classes("text-xs opacity-80")
        self._show()

    @property
    def value(self) -> str | list[str] | None:
        """The pool in the API's form; None means every adapter."""
        text = self._text.value.strip()
        if self._kind.value == _EVERY or not text:
            return None
        if self._kind.value == _FILTER:
            return str(text)
        return [part.strip() for part in text.split(",") if part.strip()]

    def _show(self) -> None:
        self._text.set_visibility(self._kind.value != _EVERY)
        self._hint.set_text(_HINTS.get(self._kind.value, "adapters that the key may use"))
