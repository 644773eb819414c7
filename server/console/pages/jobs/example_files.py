"""The examples of a job to start: dropped files, sent to the server and checked at once.

A bad line is shown with its number and its text. Files of a job that is not started are removed
from the server again, when others replace them or the page is closed.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from nicegui import ui
from nicegui.elements.upload_files import FileUpload

from server.console.api import examples
from server.console.api.client import Api
from server.console.api.errors import Refused
from server.console.api.examples import Check, ExampleFile, Param
from server.console.pages.jobs.bad_lines import BadLine, bad_lines
from server.console.parts.drop import drop
from server.console.parts.refusal import attempt
from server.console.parts.table import Column, Table
from server.console.parts.text import tagged

_LARGEST = 100 * 2**20  # bytes; what a server accepts by default
_BUTTONS: dict[Param, str] = {
    "training_file": "Choose a JSONL file of examples",
    "validation_file": "Choose one to validate (optional)",
}
_COLUMNS = [
    Column[BadLine]("Line", lambda line: line.number),
    Column[BadLine]("What is wrong", lambda line: line.message),
    Column[BadLine]("The line", lambda line: line.text),
]


@dataclass(frozen=True, slots=True)
class _Sent:
    """A file on the server, and what was dropped."""

    file: ExampleFile
    dropped: FileUpload


class ExampleFiles:
    """The fields of both files; `checked` is called with whether a job can use them."""

    def __init__(self, api: Api, checked: Callable[[bool], None]) -> None:
        self._api, self._checked = api, checked
        self._sent: dict[Param, _Sent] = {}
        with ui.row().classes("w-full"):
            for param in _BUTTONS:
                self._draw_field(param)
        self._result = ui.column().classes("w-full gap-1").props("role=status")
        ui.context.client.on_delete(self._remove_all)

    def body(self) -> dict[str, str]:
        """Return the ids of the files, by the fields of a job."""
        return {param: sent.file.id for param, sent in self._sent.items()}

    def keep(self) -> None:
        """Leave the files to the job that was started with them."""
        self._sent.clear()

    def _draw_field(self, param: Param) -> None:
        async def take(file: FileUpload) -> None:
            await attempt(lambda: self._replace(param, file))

        field = drop(_BUTTONS[param], take, endings=".jsonl,.json,.txt", most_bytes=_LARGEST)
        field.classes("w-72").mark(param)

    async def _replace(self, param: Param, dropped: FileUpload) -> None:
        """Send a file in place of the last one, and check what is there now."""
        self._checked(False)
        content = await dropped.read()
        file = await examples.upload(self._api, dropped.name, content)
        await self._remove(param)
        self._sent[param] = _Sent(file, dropped)
        await self._check()

    async def _check(self) -> None:
        training, validation = (self._sent.get(param) for param in _BUTTONS)
        self._result.clear()
        if training is None:
            return
        found = await examples.check(
            self._api, training.file.id, None if validation is None else validation.file.id
        )
        with self._result:
            tagged("p", _summary(found, self._sent))
            for param, sent in self._sent.items():
                await self._draw_bad_lines(found, param, sent)
        self._checked(found.usable)

    async def _draw_bad_lines(self, found: Check, param: Param, sent: _Sent) -> None:
        lines = await bad_lines(found.problems, param, sent.dropped.iterate())
        if lines:
            with self._result:
                Table(f"Bad lines of {sent.file.filename}", _COLUMNS, lines)

    async def _remove(self, param: Param) -> None:
        sent = self._sent.pop(param, None)
        if sent is not None:
            with suppress(Refused):  # it stays on the server, where `files` lists it
                await examples.remove(self._api, sent.file.id)

    async def _remove_all(self) -> None:
        for param in tuple(self._sent):
            await self._remove(param)


def _summary(found: Check, sent: dict[Param, _Sent]) -> str:
    """Return the result of a check as a sentence."""
    names = " and ".join(each.file.filename for each in sent.values())
    if found.usable:
        validation = f", and {found.validation_examples} to validate"
        beside = validation if "validation_file" in sent else ""
        return f"{names}: {found.examples} examples with {found.questions} questions{beside}."
    count = len(found.problems) + found.more
    more = f" The first {len(found.problems)} are shown." if found.more else ""
    told = "one problem" if count == 1 else f"{count} problems"
    return f"{names} cannot be used: {told}.{more} Correct the file and drop it again."
