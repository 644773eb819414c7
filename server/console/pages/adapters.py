"""The page of all adapters."""

from server.console.api.adapters import Adapter, adapters
from server.console.page import Page, PageContext
from server.console.parts.empty import empty
from server.console.parts.table import Column, cursor_table


def build(page: PageContext) -> None:
    """Show the adapters that the key may see."""
    cursor_table(
        "Adapters",
        [
            Column[Adapter]("Name", lambda a: a.name, href=lambda a: f"/adapters/{a.name}"),
            Column[Adapter]("Rank", lambda a: a.rank),
        ],
        lambda cursor: adapters(page.api, cursor),
        lambda: empty("There is no adapter yet.", command="weft adapters import FOLDER"),
    )


ADAPTERS = Page("/", "Adapters", build, menu="Adapters")
