"""A section that is drawn once and then follows the server's answers in the same elements.

What a reader has unfolded, sorted or focused stays as it is. The questions end with the page.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from nicegui import ui

from server.console.api.errors import Refused
from server.console.parts.section import Section

T = TypeVar("T")
_EVERY_SECONDS = 2.0


def live(
    fetch: Callable[[], Awaitable[T]],
    draw: Callable[[T], Callable[[T], object]],
    *,
    until: Callable[[T], bool] = lambda _: False,
    every: float = _EVERY_SECONDS,
) -> Section:
    """Show what the server answers, now and as it changes.

    Args:
        fetch: asks the server.
        draw: shows an answer, and returns what shows a later one in the same elements.
        until: whether an answer is the last.
        every: seconds between two questions; at least 2.
    """

    async def build() -> None:
        shown = await fetch()
        update = draw(shown)

        async def follow() -> None:
            nonlocal shown
            try:
                answer = await fetch()
            except Refused:
                timer.cancel()
                await section.load()  # which shows the refusal, and draws anew once it is over
                return
            if answer != shown:
                shown = answer
                update(answer)
            if until(answer):
                timer.cancel()

        if not until(shown):
            timer = ui.timer(every, follow, immediate=False)

    section = Section(build)
    return section
