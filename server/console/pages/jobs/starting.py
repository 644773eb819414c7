"""The page that starts a job: examples, base, the method and its options, the pool, the name."""

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from server.console.api import jobs
from server.console.api.job_options import JobOptions, job_options
from server.console.api.models import bases_of, models
from server.console.page import Page, PageContext
from server.console.pages.jobs.example_files import ExampleFiles
from server.console.pages.jobs.option_fields import (
    FIRST,
    OptionField,
    OptionNotReadable,
    changed_values,
    draw_option,
)
from server.console.pages.jobs.pool_field import PoolField
from server.console.parts.refusal import attempt
from server.console.parts.section import Section
from server.console.parts.text import plain, tagged


def build(page: PageContext) -> None:
    """Show the form; what is asked for is the server's own list."""

    async def draw() -> None:
        _StartForm(page, await job_options(page.api), bases_of(await models(page.api)))

    Section(draw)


class _StartForm:
    """The form of a job; it starts when its examples can be used."""

    def __init__(self, page: PageContext, known: JobOptions, bases: Sequence[str]) -> None:
        self._page, self._known = page, known
        self._fields: list[OptionField] = []
        tagged("p", f"A job learns from at least {known.fewest_examples} examples: a file of JSON "
                    'Lines, each {"messages": [a user\'s, …, the assistant\'s]}.')  # fmt: skip
        self._examples = ExampleFiles(page.api, self._allow)
        self._base = ui.select(list(bases), label="Base", value=bases[0] if bases else None)
        self._base.classes("w-full").mark("base").set_visibility(len(bases) > 1)
        methods = {each.name: plain(f"{each.name}: {each.meaning}") for each in known.methods}
        self._method = (
            ui.select(
                methods, label="Method", value=known.methods[0].name, on_change=self._draw_options
            )
            .classes("w-full")
            .mark("method")
        )
        self._options = ui.column().classes("w-full")
        tagged("h2", "Pool").classes("text-lg font-bold")
        self._pool = PoolField(page.parameters.get("members", ""))
        with ui.row().classes("w-full"):
            self._serve = ui.select(known.serve, label="Serve", value="best").classes("w-48")
            self._name = ui.input("Name of the result", placeholder="made up if left empty")
        self._start = ui.button("Start the job", on_click=self._click).props("no-caps")
        self._allow(usable=False)
        self._draw_options()

    def _allow(self, usable: bool) -> None:
        self._start.set_enabled(usable)

    def _draw_options(self) -> None:
        self._options.clear()
        options = self._known.of(self._method.value)
        with self._options:
            fields = [draw_option(option) for option in options if option.name in FIRST]
            with ui.expansion("More options").classes("w-full"):
                fields += [draw_option(option) for option in options if option.name not in FIRST]
        self._fields = fields

    def _body(self) -> dict[str, Any]:
        """Return the body of the request; raise OptionNotReadable if a field cannot be read."""
        options = {"method": self._method.value, **changed_values(self._fields)}
        asked = {
            **self._examples.body(), "base": self._base.value, "options": options,
            "pool": self._pool.value,
            "serve": self._serve.value, "name": self._name.value.strip() or None,
        }  # fmt: skip
        return {name: value for name, value in asked.items() if value is not None}

    async def _click(self) -> None:
        self._start.set_enabled(False)
        try:
            body = self._body()
        except OptionNotReadable as error:
            ui.notify(plain(str(error)), type="negative")
        else:
            if await attempt(lambda: self._begin(body)):
                return
        self._start.set_enabled(True)

    async def _begin(self, body: dict[str, Any]) -> None:
        job = await jobs.start(self._page.api, body)
        self._examples.keep()
        ui.navigate.to(f"/jobs/{job.id}")


NEW_JOB = Page("/jobs/new", "Start a job", build)
