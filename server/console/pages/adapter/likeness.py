"""What else is like an adapter, by its weights, its text or its behaviour."""

from typing import get_args

from nicegui import ui

from server.console.addresses import adapter_page
from server.console.api.map import By
from server.console.api.search import NEAR_DUPLICATE, Hit, search
from server.console.page import PageContext
from server.console.parts.empty import empty
from server.console.parts.section import Section
from server.console.parts.table import Column, Table
from server.console.parts.text import tagged

_MOST = 20


def draw_likeness(page: PageContext, name: str) -> None:
    """Draw the adapters that are most like this one."""
    tagged("h2", "Likeness to others").classes("text-lg font-bold")

    async def build() -> None:
        chosen: By = by.value
        hits = await search(page.api, like=name, by=chosen, limit=_MOST)
        others = [hit for hit in hits if hit.reference.partition("@")[0] != name]
        if not others:
            empty("There is no other adapter to compare with.")
            return
        Table(f"Likeness by {chosen}", _columns(chosen), others)

    async def reload() -> None:
        await section.load()

    by = ui.select(list(get_args(By)), value="weights", label="By", on_change=reload)
    by.classes("w-36")
    section = Section(build)


def _columns(by: By) -> list[Column[Hit]]:
    def near(hit: Hit) -> str:
        return "near-duplicate" if by == "weights" and hit.score > NEAR_DUPLICATE else ""

    return [
        Column[Hit](
            "Adapter", lambda hit: hit.reference, href=lambda hit: adapter_page(hit.reference)
        ),
        Column[Hit]("Cosine", lambda hit: hit.score),
        Column[Hit]("Note", near),
        Column[Hit]("Rank", lambda hit: hit.rank),
        Column[Hit]("Tags", lambda hit: ", ".join(hit.tags)),
    ]
