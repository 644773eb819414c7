"""The page Compare, put together: models, prompt, answers, blind votes, a file of prompts."""

from urllib.parse import urlencode

from nicegui import ui

from server.console.api.candidates import candidates
from server.console.api.models import models
from server.console.page import Page, PageContext
from server.console.pages.compare.ballot import Tally, read_tally
from server.console.pages.compare.batch import Batch
from server.console.pages.compare.choosing import Chooser
from server.console.pages.compare.columns import (
    Column,
    Columns,
    add_column,
    parameters_of,
    read_parameters,
)
from server.console.pages.compare.prompts import prompt_of
from server.console.pages.compare.side_by_side import SideBySide
from server.console.pages.compare.suggesting import suggest_prompts
from server.console.pages.compare.voting import Voting
from server.console.parts.section import Section
from server.console.parts.text import tagged

_PATH = "/compare"
_TOKENS, _MOST_TOKENS = 128, 4096


class _Comparing:
    """One showing of the page; its address has the columns and the votes."""

    def __init__(self, page: PageContext) -> None:
        self._page = page
        columns = read_parameters(page.parameters)
        tally = read_tally(_models(columns), page.parameters.get("votes", ""))
        tagged("h2", "Models").classes("text-lg")
        self._chooser = Chooser(columns, self._change)
        Section(self._offer)
        tagged("h2", "Prompt").classes("text-lg")
        self._draw_prompt()
        self._voting = Voting(page.api, page.who, tally, self._write_address)
        self._answers = SideBySide(page.api, self._voting)
        with ui.expansion("A file of prompts").classes("w-full"):
            Batch(page.api, lambda: self._chooser.columns, self._max_tokens)

    async def _offer(self) -> None:
        """Complete names, and add a job's candidates if the address names a job."""
        job = self._page.parameters.get("job", "")
        if job and not self._chooser.columns:
            columns: Columns = ()
            for candidate in await candidates(self._page.api, job):
                columns = add_column(columns, Column(candidate.model, candidate.title))
            await self._chooser.replace(columns)
        self._chooser.offer(await models(self._page.api))

    def _draw_prompt(self) -> None:
        self._prompt = ui.textarea("Prompt").props("autogrow outlined").classes("w-full")
        self._prompt.mark("prompt")
        self._suggested = Section(self._suggest)
        with ui.row().classes("w-full items-center gap-4"):
            if self._page.who.has("chat"):
                ui.button("Ask", icon="send", on_click=self._ask).props("no-caps")
                ui.button("Stop", on_click=self._stop).props("no-caps flat")
            self._tokens = ui.number(
                "Longest answer in tokens", value=_TOKENS, min=1, max=_MOST_TOKENS, precision=0
            ).classes("w-48")
            self._blind = ui.switch("Blind: hide which model answers until you have voted")

    async def _suggest(self) -> None:
        await suggest_prompts(self._page.api, self._chooser.columns, self._write)

    async def _ask(self) -> None:
        columns, text = self._chooser.columns, (self._prompt.value or "").strip()
        if not columns or not text:
            missing = "a prompt" if columns else "a model"
            ui.notify(f"There is nothing to ask yet. Add {missing}.", type="warning")
            return
        blind = bool(self._blind.value) and len(columns) > 1
        await self._answers.ask(columns, prompt_of(text), self._max_tokens(), blind=blind)

    def _stop(self) -> None:
        self._answers.stop()

    def _write(self, prompt: str) -> None:
        self._prompt.value = prompt

    def _max_tokens(self) -> int:
        return int(self._tokens.value or _TOKENS)

    async def _change(self, columns: Columns) -> None:
        self._answers.clear()
        self._voting.begin(Tally(_models(columns)))
        self._write_address()
        await self._suggested.load()

    def _write_address(self) -> None:
        parameters, tally = parameters_of(self._chooser.columns), self._voting.tally
        votes = {"votes": tally.text} if tally.votes else {}
        ui.navigate.history.replace(f"{_PATH}?{urlencode(parameters | votes)}")


def _models(columns: Columns) -> tuple[str, ...]:
    return tuple(column.model for column in columns)


def build(page: PageContext) -> None:
    """Show the page."""
    _Comparing(page)


COMPARE = Page(_PATH, "Compare", build, menu="Compare")
