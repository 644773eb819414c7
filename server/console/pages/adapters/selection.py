"""The adapters that were picked, and what to do with them."""

from collections.abc import Callable, Iterable

from nicegui import ui

from server.console.addresses import compare_page, compose_page
from server.console.parts.text import plain

_MOST = 64  # names that fit into an address


class Selection:
    """Names of adapters in the order of picking, shown as a bar; `changed` is called after each."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._names: dict[str, None] = {}
        self._changed = changed
        self._bar = ui.row().classes("w-full items-center min-h-10").props("role=status")
        self._draw()

    def __contains__(self, name: str) -> bool:
        """Whether the adapter is picked."""
        return name in self._names

    def set(self, name: str, *, picked: bool) -> None:
        """Pick one adapter, or give it up."""
        if picked:
            self._names[name] = None
        else:
            self._names.pop(name, None)
        self._draw()

    def add(self, names: Iterable[str]) -> None:
        """Pick further adapters."""
        self._names.update(dict.fromkeys(names))
        self._draw()
        self._changed()

    def clear(self) -> None:
        """Give up all."""
        self._names.clear()
        self._draw()
        self._changed()

    def _draw(self) -> None:
        self._bar.clear()
        with self._bar:
            if not self._names:
                ui.label("Pick adapters in the table, or by lasso on the map, to compose them.")
                return
            names = list(self._names)
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
            ui.label(plain(f"{len(names)} picked: {shown}"))
            if len(names) <= _MOST:
                expression = f"linear({', '.join(names)})"
                ui.link("Compose them", compose_page(expression)).mark("compose")
                ui.link("Compare them", compare_page(*names)).mark("compare")
            else:
                ui.label(f"Pick at most {_MOST} to compose them.")
            ui.button("Clear", on_click=self.clear).props("flat no-caps dense")
