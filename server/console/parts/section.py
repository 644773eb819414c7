"""A part of a page that the server's answers fill: waiting, slow, refused, retried, shown.

The old content stays until the new one is complete. A server that has not answered after 2.5 s is
told; one that cannot be reached is asked again every 5 s, and by the button Retry at once. A key
that is no longer known leads to the sign-in.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nicegui import ui

from server.console.api.errors import UNAUTHORIZED, Refused
from server.console.parts.refusal import refusal

_WAITING_SECONDS, SLOW_SECONDS = 0.3, 2.5
_RETRY_SECONDS = 5.0
_log = logging.getLogger("weft.console")


class Section:
    """A part of a page; `build` asks the server and then makes elements, at each `load`.

    Args:
        build: awaits what the API answers and shows it; what it raises is shown in its place.
        every: seconds after which the section loads again while the page is open; at least 2.
    """

    def __init__(self, build: Callable[[], Awaitable[None]], *, every: float | None = None) -> None:
        self._build = build
        self._running: asyncio.Task[None] | None = None
        with ui.column().classes("w-full gap-2") as self._box:
            self._notice = ui.column().classes("w-full").props("role=status")
            self._content = ui.column().classes("w-full gap-2")
            ui.timer(0, self.load, once=True)
            if every is not None:
                ui.timer(every, self.load, immediate=False)

    async def load(self) -> None:
        """Fill the section anew; a load that is still running is given up."""
        if self._box.is_deleted:  # what loads it came after the page was closed
            return
        if self._running is not None:
            self._running.cancel()
        self._running = asyncio.create_task(self._run())
        await asyncio.wait({self._running})

    async def _run(self) -> None:
        waiting = asyncio.create_task(self._say_that_it_waits())
        with self._box:
            fresh = ui.column().classes("w-full gap-2")
        fresh.set_visibility(False)
        try:
            with fresh:
                await self._build()
        except asyncio.CancelledError:
            if not fresh.is_deleted:  # as it is where the page was closed
                fresh.delete()
            raise
        except Refused as error:
            self._refuse(fresh, error)
        except Exception as error:
            _log.exception("a section of a page failed")
            self._refuse(fresh, Refused(f"The console failed, and logged it: {error!r:.200}"))
        else:
            self._show(fresh)
        finally:
            waiting.cancel()

    def _show(self, fresh: ui.column) -> None:
        if self._box.is_deleted:  # the page was closed meanwhile
            return
        self._notice.clear()
        self._content.delete()
        self._content = fresh
        fresh.set_visibility(True)

    def _refuse(self, fresh: ui.column, error: Refused) -> None:
        if self._box.is_deleted:
            return
        fresh.delete()
        self._notice.clear()
        with self._notice:
            if error.status == UNAUTHORIZED:
                ui.navigate.to("/sign-in")
                return
            refusal(error, self.load)
            if error.unanswered:
                ui.timer(_RETRY_SECONDS, self.load, once=True, immediate=False)

    async def _say_that_it_waits(self) -> None:
        await asyncio.sleep(_WAITING_SECONDS)
        self._notice.clear()
        with self._notice, ui.row().classes("items-center"):
            ui.spinner().props("aria-hidden=true")
            said = ui.label("Waiting for the server")
        await asyncio.sleep(SLOW_SECONDS - _WAITING_SECONDS)
        said.set_text("The server has not answered yet; still waiting")
        with self._notice:
            ui.button("Retry", on_click=self.load).props("flat no-caps dense")
