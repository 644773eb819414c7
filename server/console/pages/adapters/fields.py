"""The fields above the table: search as you type, filters, likeness."""

from collections.abc import Awaitable, Callable, Mapping
from typing import get_args

from nicegui import ui

from server.console.api.map import By, Legend
from server.console.pages.adapters.rows import Filters

_STATUSES = ("admitted", "quarantined", "retired")
_DEBOUNCE = "debounce=300"


class Fields:
    """The fields; `changed` is called when one of them is.

    `?like=NAME` in the page's address asks for what is like an adapter.
    """

    def __init__(
        self, parameters: Mapping[str, str], changed: Callable[[], Awaitable[None]]
    ) -> None:
        self._like = parameters.get("like", "")
        with ui.row().classes("w-full items-end"):
            self._text = ui.input("Search", on_change=changed).props(f"clearable {_DEBOUNCE}")
            self._text.classes("grow min-w-48").mark("search")
            self._status = self._choice("Status", _STATUSES, changed)
            self._base = self._choice("Base", (), changed)
            self._tag = self._choice("Tag", (), changed)
            self._owner = self._choice("Owner", (), changed)
            self._more = ui.input("Filter", placeholder="rank<=16 licence=mit", on_change=changed)
            self._more.props(f"clearable {_DEBOUNCE}").classes("min-w-48").mark("filter")
        with ui.row().classes("w-full items-end"):
            self._by: ui.select = ui.select(
                list(get_args(By)), value="weights", label="By", on_change=changed
            )
            self._by.set_visibility(bool(self._like))
            if self._like:
                ui.label(f"Adapters like {self._like:.200}")
                ui.link("Show all", "/")

    @staticmethod
    def _choice(
        label: str, options: tuple[str, ...], changed: Callable[[], Awaitable[None]]
    ) -> ui.select:
        chosen = ui.select(list(options), label=label, on_change=changed, with_input=True)
        return chosen.props("clearable").classes("w-36").mark(label.lower())

    def offer(self, legend: Legend) -> None:
        """Offer the values that adapters have."""
        for field, values in (
            (self._base, legend.base), (self._tag, legend.tags), (self._owner, legend.owner),
        ):  # fmt: skip
            field.set_options(sorted(values))

    @property
    def by(self) -> By:
        """The embedding that likeness compares."""
        chosen: By = self._by.value
        return chosen

    @property
    def filters(self) -> Filters:
        """What the fields ask for now."""
        return Filters(
            text=(self._text.value or "").strip(), like=self._like, status=self._status.value,
            base=self._base.value, tag=self._tag.value, owner=self._owner.value,
            more=self._more.value or "",
        )  # fmt: skip
