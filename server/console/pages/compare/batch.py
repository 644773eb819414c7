"""A file of prompts to all columns: the answers as a table, with what differs highlighted."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nicegui import ui
from nicegui.elements.upload_files import FileUpload

from server.console.api.chat import Answer
from server.console.api.client import Api
from server.console.pages.compare.asking import Round
from server.console.pages.compare.columns import Column, Columns
from server.console.pages.compare.differences import differences
from server.console.pages.compare.prompts import (
    MAX_BYTES,
    MAX_PROMPTS,
    Prompt,
    PromptsInvalid,
    read_prompts,
)
from server.console.parts.drop import drop
from server.console.parts.table import Column as TableColumn
from server.console.parts.table import Table
from server.console.parts.text import plain, tagged

_PER_PAGE = 10
_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and the answer of each column."""

    prompt: Prompt
    answers: tuple[Answer, ...]


class Batch:
    """The field of the file, the progress, and the table of the answers.

    `columns` and `max_tokens` are asked when a batch begins.
    """

    def __init__(
        self, api: Api, columns: Callable[[], Columns], max_tokens: Callable[[], int]
    ) -> None:
        self._api, self._columns, self._max_tokens = api, columns, max_tokens
        self._task: asyncio.Task[None] | None = None
        tagged(
            "p",
            f"Up to {MAX_PROMPTS} prompts: one on each line, as text or as JSON with prompt or "
            "messages. Where an answer differs from the first column's, the difference is marked.",
        )
        drop(
            "Choose a file of prompts",
            self._take,
            endings=".txt,.jsonl,.json",
            most_bytes=MAX_BYTES,
        ).classes("w-full")
        self._status = ui.row().classes("w-full items-center").props("role=status")
        self._table = ui.column().classes("w-full")
        ui.context.client.on_delete(self.stop)

    async def _take(self, file: FileUpload) -> None:
        columns = self._columns()
        if not columns:
            ui.notify("There is no column to ask. Add one above.", type="warning")
            return
        try:
            prompts = read_prompts(await file.read())
        except PromptsInvalid as error:
            with self._fresh_status():
                tagged("pre", str(error), 1000).classes("weft-refusal").props("role=alert")
            return
        self.stop()
        self._task = asyncio.create_task(self._run(columns, prompts))

    def stop(self) -> None:
        """End the requests of a batch; the answers that are there stay."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, columns: Columns, prompts: Sequence[Prompt]) -> None:
        rows: list[Asked] = []
        table = self._draw_table(columns)
        for number, prompt in enumerate(prompts, start=1):
            with self._fresh_status():
                ui.spinner().props("aria-hidden=true")
                tagged("span", f"Prompt {number} of {len(prompts)}")
                ui.button("Stop", on_click=self.stop).props("flat no-caps dense")
            one = Round(self._api, columns)
            await one.run(prompt.messages, self._max_tokens())
            rows.append(Asked(prompt, tuple(one.answers)))
            table.show(rows)
        with self._fresh_status():
            tagged("span", f"{len(rows)} prompts answered; {summary(rows)}.")
            ui.button(
                "Download", icon="download",
                on_click=lambda: ui.download.content(as_lines(columns, rows), "answers.jsonl"),
            ).props("flat no-caps dense")  # fmt: skip

    def _fresh_status(self) -> ui.row:
        self._status.clear()
        return self._status

    def _draw_table(self, columns: Columns) -> Table[Asked]:
        shown = [TableColumn[Asked]("Prompt", lambda row: row.prompt.text)]
        for place, column in enumerate(columns):
            shown.append(_answer_column(place, column))
        self._table.clear()
        with self._table:
            return Table("Answers", shown, [], per_page=_PER_PAGE)


def _answer_column(place: int, column: Column) -> TableColumn[Asked]:
    def draw(row: Asked) -> None:
        answer, first = row.answers[place], row.answers[0]
        if answer.error is not None:
            tagged("span", answer.error).props("role=alert").classes("weft-refusal")
            return
        with ui.element("div").classes("weft-text"):
            for piece in differences(answer.text[:_CHARACTERS], first.text[:_CHARACTERS]):
                # ins is read out by screen readers, and not told by colour alone.
                tag = "ins" if piece.differs else "span"
                tagged(tag, piece.text, _CHARACTERS).mark("differs" if piece.differs else "same")

    return TableColumn[Asked](
        plain(column.name, 60), lambda row: row.answers[place].text, cell=draw
    )


def summary(rows: Sequence[Asked]) -> str:
    """Return how many prompts all columns answered alike, as a phrase."""
    alike = sum(len({answer.text for answer in row.answers}) == 1 for row in rows)
    return f"to {alike} of {len(rows)} all columns answered the same"


def as_lines(columns: Columns, rows: Sequence[Asked]) -> bytes:
    """Return the answers as JSON lines: the messages, and each model's answer or error."""
    lines = [
        json.dumps(
            {
                "messages": list(row.prompt.messages),
                "answers": {
                    column.model: answer.text if answer.error is None else {"error": answer.error}
                    for column, answer in zip(columns, row.answers, strict=True)
                },
            },
            ensure_ascii=False,
        )
        for row in rows
    ]
    return "".join(f"{line}\n" for line in lines).encode()
