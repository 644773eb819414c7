"""Building a draft ahead of requests, and watching it: waiting, merging, loaded."""

import asyncio

from nicegui import ui

from server.console.api.client import Api
from server.console.api.composing import Build, Explanation, Warmed, builds, warm
from server.console.api.errors import Refused
from server.console.pages.compose.draft import Draft, document_of
from server.console.pages.compose.explained import duration
from server.console.parts.text import tagged

_LOOK_SECONDS = 2.0


class Builder:
    """Builds one draft at a time, and says how far it is in a box of the page."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._box = ui.column().classes("w-full").props("role=status")

    async def build(self, draft: Draft, explanation: Explanation) -> None:
        """Build a draft and load it into the engine.

        Raises:
            Refused: with the API's words.
        """
        task = asyncio.create_task(warm(self._api, document_of(draft)))
        self._say(progress(None, None))
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_SECONDS))[0]:
                self._say(progress(await self._find(explanation.recipe), explanation.seconds))
            self._say(done(task.result()))
        except Refused:
            self._box.clear()
            raise
        finally:
            task.cancel()

    async def _find(self, recipe: str | None) -> Build | None:
        """Return the build of a recipe, if it is in flight; the answer to `warm` says the rest."""
        try:
            found = await builds(self._api)
        except Refused:
            return None
        return next((build for build in found if build.recipe == recipe), None)

    def _say(self, text: str) -> None:
        if self._box.is_deleted:  # the page was closed; the build goes on
            return
        self._box.clear()
        with self._box:
            tagged("p", text)


def progress(build: Build | None, expected: float | None) -> str:
    """Return how far a build is; None is one that loads or has not begun."""
    if build is None:
        return "Asking the server to build and load it."
    if build.state == "waiting":
        return f"Waiting for a free worker for {build.seconds:.0f} s."
    least = "" if expected is None else f" of at least {duration(expected)}"
    return f"Merging for {build.seconds:.0f} s{least}."


def done(warmed: Warmed) -> str:
    """Return what a build has made, with the time of each stage."""
    stages = ", ".join(f"{name} {duration(spent)}" for name, spent in warmed.seconds.items())
    how = "loaded" if warmed.new_slot else "was loaded already"
    return f"Built: {warmed.artifact[:12]} {how} ({stages})."
