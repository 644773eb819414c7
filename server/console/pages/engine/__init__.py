"""The page of the engines: what is loaded where, merges in flight, and recent requests."""

from nicegui import ui

from server.console.api.engines import OUTCOMES, engines, requests
from server.console.page import Page, PageContext
from server.console.pages.engine.recent import RecentRequests
from server.console.pages.engine.state import EngineState
from server.console.parts.live import live
from server.console.parts.text import tagged

_REQUESTS = 100
_ANY = "any"
_REQUESTS_EVERY_SECONDS = 5.0


def build(page: PageContext) -> None:
    """Show the engines and the requests that the key may see, as they change."""
    live(lambda: engines(page.api), lambda state: EngineState(state).show)
    tagged("h2", "Recent requests").classes("text-lg font-bold")
    outcome = next((each for each in OUTCOMES if each == page.parameters.get("outcome")), None)
    ui.select(
        [_ANY, *OUTCOMES], label="Outcome", value=outcome or _ANY,
        on_change=lambda event: ui.navigate.to(
            "/engine" if event.value == _ANY else f"/engine?outcome={event.value}"
        ),
    ).classes("w-40")  # fmt: skip
    live(
        lambda: requests(page.api, outcome, _REQUESTS),
        lambda answer: RecentRequests(answer).show,
        every=_REQUESTS_EVERY_SECONDS,
    )


ENGINE = Page("/engine", "Engine", build, menu="Engine")
