"""The answers side by side: each with its text, its times, its tokens and what answered."""

import time
from collections.abc import Callable

from nicegui import ui

from server.console.api.chat import Answer
from server.console.pages.compare.columns import Column
from server.console.pages.compose.explained import duration
from server.console.parts.text import plain, tagged

_CHARACTERS = 20_000
_SHOW_SECONDS = 0.1  # a stream of many parts is drawn ten times a second


def facts(answer: Answer) -> list[tuple[str, str]]:
    """Return what is known of an answer beside its text, as label and text."""
    rows: list[tuple[str, str | None]] = [
        ("First token", duration(answer.first_token)),
        ("Total", duration(answer.total)),
        ("Tokens", None if answer.tokens is None else str(answer.tokens)),
        ("Answered by", answer.artifact and answer.artifact[:12]),
        ("Server-Timing", ", ".join(f"{k} {v:.1f} ms" for k, v in answer.timings.items()) or None),
    ]
    return [(label, value) for label, value in rows if value]


class AnswerView:
    """One column of the page while its answer streams.

    `copy` offers its request to copy. A blind one has no name, and shows no
    times and no digest, which would tell its name.
    """

    def __init__(
        self, column: Column, copy: Callable[[], object], *, blind_name: str | None
    ) -> None:
        self._column, self._copy = column, copy
        self._blind, self._shown_at = blind_name is not None, 0.0
        with ui.column().classes("w-full gap-1 weft-answer"):
            self._name = tagged("h3", blind_name or column.name).classes("text-base font-bold")
            self._name.mark("answer-name")
            self._text = tagged("pre", "", _CHARACTERS).props("tabindex=0")
            self._error = ui.column().classes("w-full")
            self._facts = ui.column().classes("w-full gap-0 text-sm")

    def show(self, answer: Answer) -> None:
        """Show the answer as far as it is there."""
        now = time.monotonic()
        if answer.total is None and now < self._shown_at + _SHOW_SECONDS:
            return
        self._shown_at = now
        self._text.set_text(plain(answer.text, _CHARACTERS))
        if answer.total is not None:
            self._end(answer)

    def reveal(self, answer: Answer) -> None:
        """End the blindness: show the name, the times and what answered."""
        self._blind = False
        self._name.set_text(plain(self._column.name))
        self._end(answer)

    def _end(self, answer: Answer) -> None:
        self._error.clear()
        self._facts.clear()
        if answer.error is not None:
            with self._error, ui.element("div").classes("weft-refusal").props("role=alert"):
                tagged("pre", answer.error, 4000)
        if self._blind:
            return
        with self._facts:
            for label, value in facts(answer):
                tagged("span", f"{label}: {value}")
            ui.button("Copy as curl or Python", on_click=self._copy).props("flat no-caps dense")
