"""One prompt to all columns at once: which answers are there, and which are still coming."""

import asyncio
from collections.abc import Callable, Sequence

from server.console.api.chat import Answer, ask
from server.console.api.client import Api
from server.console.pages.compare.columns import Column
from server.console.pages.compare.prompts import Message


class Round:
    """The answers to one prompt, by column; `told` is called with a column whose answer grew."""

    def __init__(
        self, api: Api, columns: Sequence[Column], told: Callable[[int], None] = lambda _: None
    ) -> None:
        self._api, self._columns, self._told = api, columns, told
        self.answers = [Answer() for _ in columns]

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return all(answer.total is not None for answer in self.answers)

    async def run(self, messages: Sequence[Message], max_tokens: int) -> None:
        """Ask every column, and wait for the last answer; cancelling ends the requests."""
        async with asyncio.TaskGroup() as group:
            for place in range(len(self._columns)):
                group.create_task(self._ask(place, messages, max_tokens))

    async def _ask(self, place: int, messages: Sequence[Message], max_tokens: int) -> None:
        body = self._columns[place].request(messages, max_tokens)
        async for answer in ask(self._api, body):
            self.answers[place] = answer
            self._told(place)
