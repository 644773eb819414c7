"""The answers to one prompt, drawn side by side while they stream, and the vote on blind ones."""

import asyncio
import secrets
from functools import partial

from nicegui import ui

from server.console.api.client import Api
from server.console.pages.compare.answers import AnswerView
from server.console.pages.compare.asking import Round
from server.console.pages.compare.ballot import letter, shuffled
from server.console.pages.compare.columns import Columns
from server.console.pages.compare.copying import offer_copy
from server.console.pages.compare.prompts import Prompt
from server.console.pages.compare.voting import Voting

_SEED_BITS = 32


class SideBySide:
    """Asks one prompt at a time. The requests end when the page is closed."""

    def __init__(self, api: Api, voting: Voting) -> None:
        self._api, self._voting = api, voting
        self._task: asyncio.Task[None] | None = None
        self._box = ui.element("div").classes("w-full grid gap-4 md:grid-cols-2 xl:grid-cols-3")
        ui.context.client.on_delete(self.stop)

    def stop(self) -> None:
        """End the requests; what has come stays."""
        if self._task is not None:
            self._task.cancel()

    def clear(self) -> None:
        """End the requests, and forget the answers."""
        self.stop()
        self._voting.end()
        self._box.clear()

    async def ask(self, columns: Columns, prompt: Prompt, max_tokens: int, *, blind: bool) -> None:
        """Ask every column, draw the answers, and if they are blind, open the vote."""
        self.clear()
        order = shuffled(len(columns), secrets.randbits(_SEED_BITS) if blind else None)
        views: dict[int, AnswerView] = {}
        turn = Round(self._api, columns, lambda place: views[place].show(turn.answers[place]))
        with self._box:
            for place, number in enumerate(order):
                column = columns[number]
                views[number] = AnswerView(
                    column,
                    partial(offer_copy, self._api.server, column, prompt.messages, max_tokens),
                    blind_name=f"Answer {letter(place)}" if blind else None,
                )
        self._task = task = asyncio.create_task(turn.run(prompt.messages, max_tokens))
        await asyncio.wait({task})
        if blind and not task.cancelled():

            def reveal() -> None:
                for number, view in views.items():
                    view.reveal(turn.answers[number])

            self._voting.ask(order, reveal)
