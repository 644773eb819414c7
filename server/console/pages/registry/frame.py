"""The pages of the registry, each reached from the others, as far as the key may open them."""

from collections.abc import Callable
from dataclasses import dataclass

from nicegui import ui

from server.console.api.identity import Identity
from server.console.page import Page, PageContext


@dataclass(frozen=True, slots=True)
class Part:
    """A page of the registry; `allowed` says whether an identity may read it."""

    path: str
    label: str
    build: Callable[[PageContext], None]
    allowed: Callable[[Identity], bool] = lambda _: True


def pages_of(parts: list[Part], title: str) -> tuple[Page, ...]:
    """Return the pages of all parts; the first is found in the menu, by the title."""
    return tuple(
        Page(part.path, f"{title}: {part.label.lower()}", _framed(part, parts),
             menu="" if number else title)
        for number, part in enumerate(parts)
    )  # fmt: skip


def _framed(part: Part, parts: list[Part]) -> Callable[[PageContext], None]:
    def build(page: PageContext) -> None:
        with ui.element("nav").classes("flex flex-wrap gap-4").props("aria-label=Registry"):
            for each in parts:
                if each.allowed(page.who):
                    link = ui.link(each.label, each.path)
                    if each is part:
                        link.props("aria-current=page").classes("font-bold")
        part.build(page)

    return build
